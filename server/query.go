package server

import (
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/wire"
)

// kind of a query parameter's value.
type kind int

const (
	text kind = iota
	number
	flag
	instant // RFC 3339
	table   // headers as a JSON object
)

// param is a query parameter of a route.
type param struct {
	name string
	kind kind
	doc  string
}

// parseQuery reads a query strictly: parameters that the route has not, that
// come twice or that are badly escaped are errors.
func parseQuery(raw string, params []param) (url.Values, error) {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, wire.NewProblem(wire.CodeMalformed, "", "the query is malformed: "+err.Error())
	}
	for name, values := range q {
		known := false
		for i := range params {
			known = known || params[i].name == name
		}
		if !known {
			return nil, wire.NewProblem(wire.CodeUnknownField, name, "is not a query parameter of this endpoint")
		}
		if len(values) > 1 {
			return nil, wire.NewProblem(wire.CodeInvalid, name, "must not be given twice")
		}
	}
	return q, nil
}

// values reads typed parameters and keeps the first error.
type values struct {
	url.Values
	err error
}

func (v *values) fail(name, format string, args ...any) {
	if v.err == nil {
		v.err = wire.NewProblem(wire.CodeInvalid, name, fmt.Sprintf(format, args...))
	}
}

func (v *values) int(name string, most int) int { return int(v.int64(name, int64(most))) }

func (v *values) int64(name string, most int64) int64 {
	s := v.Get(name)
	if s == "" {
		return 0
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > most {
		v.fail(name, "must be a whole number from 0 to %d", most)
		return 0
	}
	return n
}

func (v *values) uint64(name string) uint64 {
	s := v.Get(name)
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		v.fail(name, "must be a whole number from 0 to 18446744073709551615")
	}
	return n
}

func (v *values) bool(name string, unset bool) bool {
	switch s := v.Get(name); {
	case s == "true" || s == "1":
		return true
	case s == "false" || s == "0":
		return false
	case s == "" && !v.Has(name):
		return unset
	}
	v.fail(name, "must be true or false")
	return false
}

func (v *values) time(name string) *time.Time {
	s := v.Get(name)
	if s == "" {
		return nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		v.fail(name, "must be a time like 2006-01-02T15:04:05Z")
	}
	return &t
}

func (v *values) headers(name string) wire.Headers {
	s := v.Get(name)
	if s == "" {
		return nil
	}
	var h wire.Headers
	if err := wire.Decode([]byte(s), &h); err != nil && v.err == nil {
		p := *wire.ProblemOf(err)
		if p.Field == "body" {
			p.Field = name
		}
		v.err = wire.NewProblem(p.Code, p.Field, p.Reason)
	}
	return h
}
