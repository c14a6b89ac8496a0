package machine

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"

	"github.com/lockkeeper/lockkeeper/lease"
)

// A ticket is base64url of the place's sequence number, 8 bytes big endian,
// and of the first ticketMAC bytes of HMAC-SHA256, keyed with the store's
// incarnation, over name, holder and number. Without the code a client could
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

// issue returns the ticket for place seq.
func (t *tickets) issue(name, holder string, seq uint64) string {
	return base64.RawURLEncoding.EncodeToString(t.seal(name, holder, seq))
}

// seal returns the ticket's bytes, valid until the next call.
func (t *tickets) seal(name, holder string, seq uint64) []byte {
	b := binary.BigEndian.AppendUint64(t.buf[:0], seq)
	b = binary.BigEndian.AppendUint32(b, uint32(len(name)))
	b = append(b, name...)
	b = append(b, holder...)
	t.mac.Reset()
	t.mac.Write(b)
	b = t.mac.Sum(b[:8])
	t.buf = b
	return b[:8+ticketMAC]
}

// read returns the number of a ticket, or a *lease.FieldError if this store
// never issued it to this holder for this name.
func (t *tickets) read(name, holder, ticket string) (uint64, error) {
	b, err := base64.RawURLEncoding.DecodeString(ticket)
	if err != nil || len(b) != 8+ticketMAC {
		return 0, lease.Invalidf("ticket", "must be one that was returned by an acquire")
	}
	seq := binary.BigEndian.Uint64(b)
	if !hmac.Equal(b, t.seal(name, holder, seq)) {
		return 0, lease.Invalidf("ticket", "is not of this store, name and holder")
	}
	return seq, nil
}
