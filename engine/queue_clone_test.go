package engine

import (
	"bytes"
	"testing"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// A publish shares no memory with its caller, nor do its bodies with each
// other, whether they are copied together or by themselves.
func TestPublishesAreCopied(t *testing.T) {
	sizes := []int{0, 1, ownBody - 1, ownBody, ownBody + 1, 1, 2 * ownBody, 100}
	var ps []queuedriver.Publishing
	for i, n := range sizes {
		ps = append(ps, queuedriver.Publishing{Message: &queuedriver.Message{Body: bytes.Repeat([]byte{byte(i + 1)}, n)}})
	}
	own := clonePublishings(ps)
	for _, p := range ps {
		clear(p.Message.Body)
	}
	for i, n := range sizes {
		_ = append(own[i].Message.Body, 0xff)
		if len(own[i].Message.Body) != n {
			t.Errorf("body %d has %d bytes, want %d", i, len(own[i].Message.Body), n)
		}
	}
	for i, p := range own {
		for _, b := range p.Message.Body {
			if b != byte(i+1) {
				t.Fatalf("body %d has changed", i)
			}
		}
	}
}
