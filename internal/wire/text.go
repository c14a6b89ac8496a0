package wire

import (
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/lockkeeper/lockkeeper/lease"
)

// CheckText returns a *lease.FieldError if v, a request, has text that is not
// UTF-8. encoding/json would send something else instead, silently.
func CheckText(v any) error { return checkText(reflect.ValueOf(v), "") }

func checkText(v reflect.Value, at string) error {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return checkText(v.Elem(), at)
		}
	case reflect.String:
		if !utf8.ValidString(v.String()) {
			return lease.Invalidf(driverField(at), "must be valid UTF-8")
		}
	case reflect.Struct:
		for _, f := range reflect.VisibleFields(v.Type()) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Anonymous || name == "" {
				continue
			}
			if err := checkText(v.FieldByIndex(f.Index), join(at, name)); err != nil {
				return err
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return nil
		}
		for i := range v.Len() {
			if err := checkText(v.Index(i), Indexed(at, i)); err != nil {
				return err
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if !utf8.ValidString(it.Key().String()) {
				return lease.Invalidf(at+" key", "must be valid UTF-8")
			}
			if err := checkText(it.Value(), at+"["+it.Key().String()+"]"); err != nil {
				return err
			}
		}
	}
	return nil
}
