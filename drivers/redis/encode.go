package redis

import (
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// maxNumber is the largest number that Lua holds exactly; tokens, without
// their base, and places in the line are far below it.
const maxNumber = 1<<53 - 1

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// strip returns a token as the scripts know it, without the base. No grant has
// one that is not above the base.
func (c *conn) strip(t lease.Token) (string, bool) {
	if t <= c.base || t-c.base > maxNumber {
		return "", false
	}
	return (t - c.base).String(), true
}

// sealDigits is how long the code of a ticket is, in hexadecimal digits.
const sealDigits = 16

// A ticket is the number of the place, and a code that the scripts make and
// check: nobody else knows it of a place that is not theirs.
func writeTicket(place int64, code string) string {
	return strconv.FormatInt(place, 10) + "." + code
}

// readTicket returns what the script reads of a ticket, "0" if there is none.
func readTicket(t *driver.Ticket) (string, error) {
	if t == nil {
		return "0", nil
	}
	place, code, _ := strings.Cut(t.Opaque, ".")
	n, err := strconv.ParseInt(place, 10, 64)
	_, hexadecimal := hex.DecodeString(code)
	if err != nil || n <= 0 || n > maxNumber || hexadecimal != nil || len(code) != sealDigits || writeTicket(n, code) != t.Opaque {
		return "", lease.Invalidf("ticket", "must be one that was returned by an acquire")
	}
	return t.Opaque, nil
}

// setOf tells the names that a request waits for together from other sets that
// have some of them; "" for one name.
func setOf(r *driver.Request) string {
	if len(r.More) == 0 {
		return ""
	}
	d := xxhash.New()
	for i := range r.Names() {
		_, _ = d.WriteString(r.NameAt(i))
		_, _ = d.WriteString("\n") // no name has one
	}
	return strconv.FormatUint(d.Sum64(), 36)
}

// writeMeta returns metadata as JSON, "" if there is none.
func writeMeta(m map[string]string) (string, error) {
	if len(m) == 0 {
		return "", nil
	}
	b, err := json.Marshal(m)
	if err != nil {
		return "", lease.Invalidf("meta", "cannot be stored: %v", err)
	}
	return string(b), nil
}

func checkRef(name, holder string) error {
	if err := driver.ValidateName("name", name); err != nil {
		return err
	}
	return driver.ValidateHolder("holder", holder)
}

func checkBatch(refs []driver.Ref) error {
	if len(refs) > driver.MaxBatch {
		return lease.Invalidf("leases", "must be at most %d, are %d", driver.MaxBatch, len(refs))
	}
	for i := range refs {
		if err := checkRef(refs[i].Name, refs[i].Holder); err != nil {
			return err
		}
	}
	return nil
}
