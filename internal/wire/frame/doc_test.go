package frame

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"

	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// worked are the batches of the worked example in docs/wire.md, in its order.
func worked() [][]byte {
	ref := lockdriver.Ref{Name: "stock/42", Holder: "me", Token: 7}
	ask := AppendFrame(nil, 1, AppendAcquire(nil, &lockdriver.Request{Name: "stock/42", Holder: "me", TTL: 10 * time.Second}, true))
	ask = AppendFrame(ask, 2, AppendPublish(nil, []queuedriver.Publishing{{
		Route: queuedriver.Route{Key: "q"}, Mandatory: true, Message: &queuedriver.Message{ID: "m-1", Body: []byte("hi")},
	}}))
	granted := AppendFrame(nil, 1, AppendGranted(nil, &lockdriver.Grant{Token: 7, TTL: 10 * time.Second, Waited: time.Millisecond}))
	receipts := AppendFrame(nil, 2, AppendReceipts(nil, []queuedriver.Receipt{{Durability: queuedriver.Synced, Queues: 1}}))
	release := AppendFrame(nil, 3, AppendRelease(nil, []lockdriver.Ref{ref}))
	outcomes := AppendFrame(nil, 3, AppendOutcomes(nil, []lockdriver.Outcome{{}}))
	return [][]byte{ask, append(granted, receipts...), release, outcomes}
}

// TestWorkedExample: the bytes in docs/wire.md are those that we send.
func TestWorkedExample(t *testing.T) {
	text, err := os.ReadFile("../../../docs/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks [][]byte
	for _, part := range strings.Split(string(text), "```hex\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		var b []byte
		for line := range strings.Lines(block) {
			code, _, _ := strings.Cut(line, "#") // behind it is what it means
			some, err := hex.DecodeString(strings.Join(strings.Fields(code), ""))
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			b = append(b, some...)
		}
		blocks = append(blocks, b)
	}
	want := worked()
	if len(blocks) != len(want) {
		t.Fatalf("%d blocks of hex, want %d", len(blocks), len(want))
	}
	for i := range want {
		if !bytes.Equal(blocks[i], want[i]) {
			t.Errorf("block %d is\n%x, want\n%x", i+1, blocks[i], want[i])
		}
	}
}
