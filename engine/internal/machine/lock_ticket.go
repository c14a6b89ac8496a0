package machine

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"

	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// A ticket is base64url of the place's sequence number, 8 bytes big endian,
// and of the first ticketMAC bytes of HMAC-SHA256, keyed with the store's
// incarnation, over names, holder and number. Without the code a client could
// write itself a ticket to the head of the line.
const ticketMAC = 16

// tickets makes and checks tickets.
type tickets struct {
	mac hash.Hash
	buf []byte // scratch
}

func newTickets(incarnation [16]byte) tickets {
	return tickets{mac: hmac.New(sha256.New, incarnation[:])}
}

// issue returns the ticket for a place.
func (t *tickets) issue(w *lockWaiter) string {
	t.begin(w.seq)
	for _, n := range w.names {
		t.name(n.name)
	}
	return base64.RawURLEncoding.EncodeToString(t.seal(w.holder))
}

// begin, name for each name, and seal make the ticket's bytes, which are valid
// until the next begin. A name's length begins with a zero byte, which no
// holder has: the parts cannot be taken for each other.
func (t *tickets) begin(seq uint64) { t.buf = binary.BigEndian.AppendUint64(t.buf[:0], seq) }

func (t *tickets) name(name string) {
	t.buf = append(binary.BigEndian.AppendUint32(t.buf, uint32(len(name))), name...)
}

func (t *tickets) seal(holder string) []byte {
	t.buf = append(t.buf, holder...)
	t.mac.Reset()
	t.mac.Write(t.buf)
	t.buf = t.mac.Sum(t.buf[:8])
	return t.buf[:8+ticketMAC]
}

// read returns the number of a ticket, or a *lease.FieldError if this store
// never issued it to this holder for these names.
func (t *tickets) read(r *lockdriver.Request, ticket string) (uint64, error) {
	b, err := base64.RawURLEncoding.DecodeString(ticket)
	if err != nil || len(b) != 8+ticketMAC {
		return 0, lease.Invalidf("ticket", "must be one that was returned by an acquire")
	}
	seq := binary.BigEndian.Uint64(b)
	t.begin(seq)
	for i := range r.Names() {
		t.name(r.NameAt(i))
	}
	if !hmac.Equal(b, t.seal(r.Holder)) {
		return 0, lease.Invalidf("ticket", "is not of this store, names and holder")
	}
	return seq, nil
}
