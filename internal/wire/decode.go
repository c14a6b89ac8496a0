package wire

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/lockkeeper/lockkeeper/lease"
)

// Decode reads the JSON value that data consists of into v, strictly: what
// encoding/json forgives is an error here, and a *Problem that names the
// field. These are unknown and repeated fields, names in another case, null,
// data behind the value, text that is not UTF-8 (also by a lone surrogate),
// nesting deeper than MaxDepth, and more than MaxElements in one place.
func Decode(data []byte, v any) error {
	if len(bytes.TrimLeft(data, " \t\r\n")) == 0 {
		return NewProblem(CodeMalformed, "body", "is empty, must be a JSON object")
	}
	if !utf8.Valid(data) {
		return NewProblem(CodeMalformed, "body", "must be UTF-8; send other data as base64")
	}
	walk := func() error {
		w := walker{data: data}
		return w.value(reflect.TypeOf(v).Elem(), nil, 1)
	}
	// A list of many {} takes a hundred times its length in memory: where
	// there can be one, it is looked for before anything is made of it.
	if bytes.Count(data, []byte{','}) >= MaxElements && json.Valid(data) {
		if err := walk(); err != nil {
			return err
		}
	}
	err := json.Unmarshal(data, v)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return NewProblem(CodeMalformed, "body", fmt.Sprintf("is not one JSON value: %v (at byte %d)", syntax, syntax.Offset))
	}
	// From here on the syntax is known to be right. The walk comes before
	// err because it knows the place, with indices.
	if werr := walk(); werr != nil {
		return werr
	}
	var problem *Problem
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &problem):
		return problem
	case errors.As(err, &wrong):
		return NewProblem(CodeInvalid, orBody(wrong.Field), fmt.Sprintf("must be %s, is %s", jsonType(wrong.Type), wrong.Value))
	}
	if errors.Is(err, lease.ErrInvalid) {
		return ProblemOf(err)
	}
	return NewProblem(CodeInvalid, "body", "cannot be read: "+err.Error()) // base64, times
}

func orBody(field string) string {
	if field == "" {
		return "body"
	}
	return field
}

// place is where the walker is; it becomes text only in an error.
type place struct {
	up    *place
	name  string
	index int // if name is empty
}

func (p *place) String() string {
	switch {
	case p == nil:
		return ""
	case p.name == "":
		return p.up.String() + "[" + strconv.Itoa(p.index) + "]"
	case p.up == nil:
		return p.name
	}
	return p.up.String() + "." + p.name
}

// walker walks through valid JSON side by side with the Go type that it is
// decoded into. A nil type admits anything.
type walker struct {
	data []byte
	pos  int
}

func (w *walker) refuse(code string, at *place, format string, args ...any) error {
	return NewProblem(code, orBody(at.String()), fmt.Sprintf(format, args...))
}

func (w *walker) space() {
	for w.pos < len(w.data) && strings.IndexByte(" \t\r\n", w.data[w.pos]) >= 0 {
		w.pos++
	}
}

func (w *walker) value(t reflect.Type, at *place, depth int) error {
	if depth > MaxDepth {
		return w.refuse(CodeMalformed, at, "must be nested at most %d deep", MaxDepth)
	}
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t != nil && t.Kind() == reflect.Interface {
		t = nil
	}
	w.space()
	c := w.data[w.pos]
	if c == 'n' {
		return w.refuse(CodeInvalid, at, "must not be null; leave it out instead")
	}
	if t != nil && !admits(t, c) {
		return w.refuse(CodeInvalid, at, "must be %s", jsonType(t))
	}
	switch c {
	case '{':
		return w.object(t, at, depth)
	case '[':
		return w.array(t, at, depth)
	case '"':
		_, err := w.text(at)
		return err
	}
	start := w.pos
	for w.pos < len(w.data) && strings.IndexByte(" \t\r\n,]}", w.data[w.pos]) < 0 {
		w.pos++
	}
	if t != nil && isInteger(t) && bytes.ContainsAny(w.data[start:w.pos], ".eE") {
		return w.refuse(CodeInvalid, at, "must be a whole number, is %s", w.data[start:w.pos])
	}
	return nil
}

func (w *walker) object(t reflect.Type, at *place, depth int) error {
	var fields map[string]reflect.Type
	var elem reflect.Type
	if t != nil && !custom(t) {
		if t.Kind() == reflect.Struct {
			fields = fieldsOf(t)
		} else {
			elem = t.Elem()
		}
	}
	seen := map[string]bool{}
	w.pos++ // {
	for {
		w.space()
		switch w.data[w.pos] {
		case '}':
			w.pos++
			return nil
		case ',':
			w.pos++
			continue
		}
		name, err := w.text(at)
		if err != nil {
			return err
		}
		here := &place{up: at, name: name}
		if name == "" {
			here.name = `""`
		}
		if seen[name] {
			return w.refuse(CodeInvalid, here, "must not be given twice")
		}
		if seen[name] = true; len(seen) > MaxElements {
			return w.refuse(CodeInvalid, at, "must have at most %d members", MaxElements)
		}
		ft := elem
		if fields != nil {
			var ok bool
			if ft, ok = fields[name]; !ok {
				return w.refuse(CodeUnknownField, here, "is not a known field%s", hint(fields, name))
			}
		}
		w.space()
		w.pos++ // :
		if err := w.value(ft, here, depth+1); err != nil {
			return err
		}
	}
}

func (w *walker) array(t reflect.Type, at *place, depth int) error {
	var elem reflect.Type
	if t != nil && !custom(t) {
		elem = t.Elem()
	}
	w.pos++ // [
	for i := 0; ; {
		w.space()
		switch w.data[w.pos] {
		case ']':
			w.pos++
			return nil
		case ',':
			w.pos++
			continue
		}
		if i == MaxElements {
			return w.refuse(CodeInvalid, at, "must have at most %d elements", MaxElements)
		}
		if err := w.value(elem, &place{up: at, index: i}, depth+1); err != nil {
			return err
		}
		i++
	}
}

// text passes a string and returns it decoded.
func (w *walker) text(at *place) (string, error) {
	start := w.pos
	escaped := false
	// A body is megabytes: what is between quotes and backslashes is passed
	// over at once, and no byte is looked at twice for the same.
	for pos, quote := start+1, 0; ; {
		if quote < pos {
			quote = pos + bytes.IndexByte(w.data[pos:], '"')
		}
		i := bytes.IndexByte(w.data[pos:quote], '\\')
		if i < 0 {
			w.pos = quote + 1
			break
		}
		escaped = true
		pos += i + 2
	}
	raw := w.data[start:w.pos]
	if !escaped {
		return string(raw[1 : len(raw)-1]), nil
	}
	if loneSurrogate(raw) {
		return "", w.refuse(CodeMalformed, at, "must be valid Unicode, has half of a surrogate pair")
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err
}

func loneSurrogate(raw []byte) bool {
	unit := func(i int) uint64 {
		if i+6 > len(raw) || raw[i] != '\\' || raw[i+1] != 'u' {
			return 0
		}
		n, _ := strconv.ParseUint(string(raw[i+2:i+6]), 16, 16)
		return n
	}
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		switch u := unit(i); {
		case u >= 0xd800 && u < 0xdc00:
			if next := unit(i + 6); next < 0xdc00 || next > 0xdfff {
				return true
			}
			i += 11
		case u >= 0xdc00 && u < 0xe000:
			return true
		default:
			i++
		}
	}
	return false
}

var (
	unmarshaler     = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// custom says that the type decodes itself: the walker looks only at what is
// the same for all JSON.
func custom(t reflect.Type) bool { return reflect.PointerTo(t).Implements(unmarshaler) }

func isText(t reflect.Type) bool {
	return t.Kind() == reflect.String || reflect.PointerTo(t).Implements(textUnmarshaler) ||
		t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
}

func isInteger(t reflect.Type) bool {
	return !isText(t) && t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64
}

// admits says whether a value that begins with c can be one of t. What it
// lets through wrongly the decoder refuses.
func admits(t reflect.Type, c byte) bool {
	switch {
	case isText(t): // before custom: time.Time is both
		return c == '"'
	case t.Kind() == reflect.Struct || t.Kind() == reflect.Map:
		return c == '{'
	case t.Kind() == reflect.Slice:
		return c == '['
	case t.Kind() == reflect.Bool:
		return c == 't' || c == 'f'
	}
	return c == '-' || c >= '0' && c <= '9'
}

func jsonType(t reflect.Type) string {
	switch {
	case isText(t):
		return "a string"
	case t.Kind() == reflect.Struct || t.Kind() == reflect.Map:
		return "an object"
	case t.Kind() == reflect.Slice:
		return "an array"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case isInteger(t):
		return "a whole number of " + strconv.Itoa(t.Bits()) + " bits"
	}
	return "a number"
}

func hint(fields map[string]reflect.Type, name string) string {
	for known := range fields {
		if strings.EqualFold(known, name) {
			return fmt.Sprintf("; did you mean %q?", known)
		}
	}
	return ""
}

var fieldCache sync.Map // reflect.Type -> map[string]reflect.Type

// fieldsOf returns the JSON names of a struct's fields, embedded ones included.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	if m, ok := fieldCache.Load(t); ok {
		fields, _ := m.(map[string]reflect.Type) // nothing else is stored
		return fields
	}
	m := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			m[name] = f.Type
		}
	}
	fieldCache.Store(t, m)
	return m
}
