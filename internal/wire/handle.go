package wire

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"

	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// handleVersion is the first byte of a handle, so that the form can change.
const handleVersion = 1

// EncodeHandle returns the handle of a delivery: version, sequence number and
// token as varints, the queue's name, and a checksum that tells a handle that
// was cut or mistyped from one that is not held any more. It is no secret and
// no proof: who may settle is decided by the daemon's tokens.
func EncodeHandle(r queuedriver.Ref) string {
	b := make([]byte, 0, 1+2*binary.MaxVarintLen64+len(r.Queue)+4)
	b = append(b, handleVersion)
	b = binary.AppendUvarint(b, r.Seq)
	b = binary.AppendUvarint(b, uint64(r.Token))
	b = append(b, r.Queue...)
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	return base64.RawURLEncoding.EncodeToString(b)
}

// DecodeHandle reads a handle. field is what an error names.
func DecodeHandle(field, s string) (queuedriver.Ref, error) {
	bad := NewProblem(CodeInvalid, field, "must be a delivery as /v1/receive returned it")
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) < 5 || b[0] != handleVersion {
		return queuedriver.Ref{}, bad
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if crc32.ChecksumIEEE(body) != sum {
		return queuedriver.Ref{}, bad
	}
	body = body[1:]
	seq, n := binary.Uvarint(body)
	if n <= 0 {
		return queuedriver.Ref{}, bad
	}
	body = body[n:]
	token, n := binary.Uvarint(body)
	if n <= 0 {
		return queuedriver.Ref{}, bad
	}
	r := queuedriver.Ref{Queue: string(body[n:]), Seq: seq, Token: lease.Token(token)}
	if queuedriver.ValidateQueueName(field, r.Queue) != nil || EncodeHandle(r) != s {
		return queuedriver.Ref{}, bad
	}
	return r, nil
}
