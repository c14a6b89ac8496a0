package driver

import (
	"math"
	"sort"
	"time"
	"unicode/utf8"

	"github.com/lockkeeper/lockkeeper/lease"
)

// Validate checks count, size, depth and types.
func (h Headers) Validate(field string) error {
	count, size := 0, 0
	if err := h.measure(field, 1, &count, &size); err != nil {
		return err
	}
	if count > MaxHeaders {
		return lease.Invalidf(field, "must have at most %d entries, has %d", MaxHeaders, count)
	}
	if size > MaxHeaderBytes {
		return lease.Invalidf(field, "must have at most %d bytes, has %d", MaxHeaderBytes, size)
	}
	return nil
}

func (h Headers) measure(field string, depth int, count, size *int) error {
	for k, v := range h {
		if err := lease.ValidateText(field+" key", k, 1, MaxKey); err != nil {
			return err
		}
		*count++
		*size += len(k)
		if err := measureValue(field+"["+k+"]", v, depth, count, size); err != nil {
			return err
		}
	}
	return nil
}

func measureValue(field string, v any, depth int, count, size *int) error {
	if depth > MaxHeaderDepth {
		return lease.Invalidf(field, "must be nested at most %d deep", MaxHeaderDepth)
	}
	switch v := v.(type) {
	case bool:
		*size++
	case int64:
		*size += 8
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return lease.Invalidf(field, "must be a finite number")
		}
		*size += 8
	case time.Time:
		if y := v.Year(); y < 1970 || y > 9999 {
			return lease.Invalidf(field, "must be a time in the years 1970 to 9999")
		}
		*size += 8
	case string:
		if !utf8.ValidString(v) {
			return lease.Invalidf(field, "must be valid UTF-8; use bytes for other data")
		}
		*size += len(v)
	case []byte:
		*size += len(v)
	case Headers:
		return v.measure(field, depth+1, count, size)
	case []any:
		for _, e := range v {
			*count++
			if err := measureValue(field, e, depth+1, count, size); err != nil {
				return err
			}
		}
	default:
		return lease.Invalidf(field, "must be a bool, number, string, []byte, time.Time, table or list, is %T", v)
	}
	return nil
}

// Normalize returns h with Go's other integer and float types turned into
// int64 and float64, maps into Headers, and times cut to whole seconds in
// UTC. What it cannot turn it leaves for Validate to refuse. h is not
// changed; if nothing is to do h itself is returned.
func (h Headers) Normalize() Headers {
	var out Headers
	for k, v := range h {
		n, changed := normalValue(v)
		if !changed {
			continue
		}
		if out == nil {
			out = make(Headers, len(h))
			for k, v := range h {
				out[k] = v
			}
		}
		out[k] = n
	}
	if out == nil {
		return h
	}
	return out
}

func normalValue(v any) (any, bool) {
	switch v := v.(type) {
	case int:
		return int64(v), true
	case int8:
		return int64(v), true
	case int16:
		return int64(v), true
	case int32:
		return int64(v), true
	case uint8:
		return int64(v), true
	case uint16:
		return int64(v), true
	case uint32:
		return int64(v), true
	case uint64:
		if v <= math.MaxInt64 {
			return int64(v), true
		}
	case uint:
		if uint64(v) <= math.MaxInt64 {
			return int64(v), true
		}
	case float32:
		return float64(v), true
	case time.Time:
		t := v.UTC().Truncate(time.Second)
		return t, !t.Equal(v) || v.Location() != time.UTC
	case map[string]any:
		return Headers(v).Normalize(), true
	case Headers:
		return v.Normalize(), true
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i], _ = normalValue(e)
		}
		return out, true
	}
	return v, false
}

// Keys returns the keys of h in byte order.
func (h Headers) Keys() []string {
	keys := make([]string, 0, len(h))
	for k := range h {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
