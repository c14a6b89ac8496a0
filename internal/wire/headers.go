package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Headers are message headers in JSON, every value with its type kept: a
// number without point and exponent is an int64 and any other a float64 (2.0
// is written as 2.0), {"$bytes": BASE64} is bytes, {"$time": SECONDS} is a
// time since 1970, a list is a list and any other object a table. A table
// with a key that begins with $ is written as {"$table": {...}}.
type Headers queuedriver.Headers

const (
	tagBytes = "$bytes"
	tagTime  = "$time"
	tagTable = "$table"
)

// year10000 in seconds since 1970: what comes before can be written in RFC 3339.
const year10000 = 253402300800

// maxHeadersJSON is the longest JSON of headers within their limits: six
// bytes for each escaped one, and the marks of types. What is longer is not
// even taken apart, because that takes many times its length.
const maxHeadersJSON = 8*queuedriver.MaxHeaderBytes + 64*queuedriver.MaxHeaders

// MarshalJSON implements json.Marshaler. The order of keys is fixed.
func (h Headers) MarshalJSON() ([]byte, error) {
	table, err := encodeTable(queuedriver.Headers(h), "headers")
	if err != nil {
		return nil, err
	}
	return json.Marshal(table)
}

func encodeTable(h queuedriver.Headers, field string) (map[string]any, error) {
	out := make(map[string]any, len(h))
	for k, v := range h {
		e, err := encodeValue(v, field+"["+k+"]")
		if err != nil {
			return nil, err
		}
		out[k] = e
	}
	return out, nil
}

func encodeValue(v any, field string) (any, error) {
	switch v := v.(type) {
	case bool, int64, string:
		return v, nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, NewProblem(CodeInvalid, field, "must be a finite number")
		}
		s := strconv.FormatFloat(v, 'g', -1, 64)
		if !strings.ContainsAny(s, ".e") {
			s += ".0"
		}
		return json.Number(s), nil
	case []byte:
		return map[string]any{tagBytes: base64.StdEncoding.EncodeToString(v)}, nil
	case time.Time:
		return map[string]any{tagTime: v.Unix()}, nil
	case queuedriver.Headers:
		table, err := encodeTable(v, field)
		for k := range table {
			if strings.HasPrefix(k, "$") {
				return map[string]any{tagTable: table}, err
			}
		}
		return table, err
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			var err error
			if out[i], err = encodeValue(e, field); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return nil, NewProblem(CodeInvalid, field, "must be a bool, number, string, bytes, time, table or list")
}

// UnmarshalJSON implements json.Unmarshaler. It checks types; limits are
// checked by the drivers' Validate.
func (h *Headers) UnmarshalJSON(data []byte) error {
	if len(data) > maxHeadersJSON {
		return NewProblem(CodeInvalid, "headers", fmt.Sprintf("must have at most %d bytes of keys and values", queuedriver.MaxHeaderBytes))
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var raw map[string]any
	if err := dec.Decode(&raw); err != nil {
		return NewProblem(CodeInvalid, "headers", "must be an object")
	}
	table, err := decodeTable(raw, "headers", 1)
	if err != nil {
		return err
	}
	*h = Headers(table)
	return nil
}

func decodeTable(raw map[string]any, field string, depth int) (queuedriver.Headers, error) {
	out := make(queuedriver.Headers, len(raw))
	for k, v := range raw {
		d, err := decodeValue(v, field+"["+k+"]", depth)
		if err != nil {
			return nil, err
		}
		out[k] = d
	}
	return out, nil
}

func decodeValue(v any, field string, depth int) (any, error) {
	if depth > queuedriver.MaxHeaderDepth+1 { // one more, for Validate to name the limit
		return nil, NewProblem(CodeInvalid, field, "must be nested at most "+strconv.Itoa(queuedriver.MaxHeaderDepth)+" deep")
	}
	switch v := v.(type) {
	case bool, string:
		return v, nil
	case json.Number:
		return decodeNumber(v.String(), field)
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			var err error
			if out[i], err = decodeValue(e, field, depth+1); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		for k := range v {
			if strings.HasPrefix(k, "$") {
				return decodeTagged(v, field, depth)
			}
		}
		return decodeTable(v, field, depth+1)
	}
	return nil, NewProblem(CodeInvalid, field, "must not be null")
}

func decodeNumber(s, field string) (any, error) {
	if !strings.ContainsAny(s, ".eE") {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, NewProblem(CodeInvalid, field, "must fit 64 bits as a whole number; write it with a point to make it a float")
		}
		return n, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, NewProblem(CodeInvalid, field, "must fit a 64-bit float")
	}
	return f, nil
}

func decodeTagged(v map[string]any, field string, depth int) (any, error) {
	if len(v) > 1 {
		v = nil // a mark stands alone
	}
	if table, ok := v[tagTable].(map[string]any); ok {
		return decodeTable(table, field, depth+1)
	}
	if s, ok := v[tagBytes].(string); ok {
		if b, err := base64.StdEncoding.Strict().DecodeString(s); err == nil {
			return b, nil
		}
	}
	if n, ok := v[tagTime].(json.Number); ok {
		if sec, err := strconv.ParseInt(n.String(), 10, 64); err == nil && sec >= 0 && sec < year10000 {
			return time.Unix(sec, 0).UTC(), nil
		}
	}
	return nil, NewProblem(CodeInvalid, field, `must be {"$bytes": BASE64}, {"$time": SECONDS} since 1970 or {"$table": {...}}: keys with $ mark types`)
}
