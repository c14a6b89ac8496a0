package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper/internal/schemes"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// register registers, in a registry that a test has for itself.
func register(t *testing.T, scheme string, open Opener) {
	t.Helper()
	before := openers
	openers = new(schemes.Registry[Opener])
	t.Cleanup(func() { openers = before })
	Register(scheme, open)
}

func TestOpen(t *testing.T) {
	c := newFake()
	refuse := errors.New("no such host")
	register(t, "fake-open", func(_ context.Context, url string) (driver.Conn, error) {
		if strings.HasSuffix(url, "refused") {
			return nil, refuse
		}
		return c, nil
	})
	b, err := Open(t.Context(), "fake-open://somewhere")
	if err != nil {
		t.Fatal(err)
	}
	if b.Caps() != c.Caps() {
		t.Errorf("got %+v", b.Caps())
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	_, err = Open(t.Context(), "fake-open://user:secret@refused")
	wantIs(t, err, refuse)
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error has the password: %v", err)
	}
	for _, url := range []string{"", "somewhere", "://x", "unknown://x", "fake-open:/x"} {
		_, err := Open(t.Context(), url)
		wantIs(t, err, ErrInvalid)
		var f *FieldError
		if !errors.As(err, &f) || f.Field != "url" {
			t.Errorf("%q: %v does not name the field", url, err)
		}
	}
	_, err = Open(t.Context(), "unknown://x")
	for _, s := range append(Schemes(), "unknown") {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%v does not name %q", err, s)
		}
	}
	if s := Schemes(); !slices.IsSorted(s) || !slices.Contains(s, "fake-open") {
		t.Errorf("Schemes returned %v", s)
	}
}

func TestRegisterPanics(t *testing.T) {
	open := func(context.Context, string) (driver.Conn, error) { return newFake(), nil }
	register(t, "fake-twice", open)
	for scheme, open := range map[string]Opener{"fake-twice": open, "fake-nil": nil} {
		func() {
			defer func() {
				if r := recover(); r == nil || !strings.Contains(fmt.Sprint(r), scheme) {
					t.Errorf("Register of %s: panicked with %v", scheme, r)
				}
			}()
			Register(scheme, open)
		}()
	}
}
