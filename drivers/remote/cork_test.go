package remote

import (
	"bytes"
	"errors"
	"net"
	"testing"
)

// recorder is a connection that notes its writes.
type recorder struct {
	net.Conn
	writes [][]byte
	err    error
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	r.writes = append(r.writes, bytes.Clone(p))
	return len(p), nil
}

// TestCorkGathers: what is written in small parts leaves whole, in order and
// in large parts; without the cork it leaves at once.
func TestCorkGathers(t *testing.T) {
	r := &recorder{}
	c := &corked{Conn: r}
	if corkOf(c) != c || corkOf(r) != nil {
		t.Error("a connection that can be corked is not told from others")
	}
	var want []byte
	write := func(n int) {
		t.Helper()
		p := bytes.Repeat([]byte{byte(len(want) >> 12)}, n)
		want = append(want, p...)
		if got, err := c.Write(p); got != n || err != nil {
			t.Fatalf("wrote %d of %d: %v", got, n, err)
		}
	}
	write(3)
	if len(r.writes) != 1 {
		t.Errorf("%d writes of one without a cork", len(r.writes))
	}
	c.cork()
	for range 50 {
		write(4 << 10)
	}
	write(5)
	if err := c.uncork(); err != nil {
		t.Fatal(err)
	}
	write(2)
	if got := bytes.Join(r.writes, nil); !bytes.Equal(got, want) {
		t.Errorf("%d bytes left of %d, or others", len(got), len(want))
	}
	if most := 2 + 200<<10/corkBytes + 1; len(r.writes) > most {
		t.Errorf("%d writes, at most %d", len(r.writes), most)
	}
	r.err = errors.New("broken")
	c.cork()
	if _, err := c.Write([]byte{1}); err != nil {
		t.Errorf("a write that is only gathered: %v", err)
	}
	if err := c.uncork(); !errors.Is(err, r.err) {
		t.Errorf("what was gathered could not leave: %v", err)
	}
}
