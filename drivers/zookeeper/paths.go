package zookeeper

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// shards is over how many nodes the names are spread: a list of children is
// one reply, and has to be read whole.
const shards = 64

// escape writes a name as one element of a path. The servers refuse many
// characters, so that only simple ones stay as they are.
func escape(name string) string {
	var b strings.Builder
	for i := range len(name) {
		ch := name[i]
		if ch < ' ' || ch > '~' || ch == '/' || ch == '%' || ch == '.' && i == 0 {
			fmt.Fprintf(&b, "%%%02X", ch)
		} else {
			b.WriteByte(ch)
		}
	}
	return b.String()
}

// unescape is the inverse of escape.
func unescape(s string) (name string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+3 > len(s) {
			return "", false
		}
		n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		b.WriteByte(byte(n))
		i += 2
	}
	name = b.String()
	return name, escape(name) == s
}

func shardOf(name string) string { return fmt.Sprintf("%02x", xxhash.Sum64String(name)%shards) }

// Kinds of claims, the first element of their names; permits follow the last.
const (
	kindExclusive = "x"
	kindShared    = "s"
	kindPermits   = "p"
)

// Kinds of marks, persistent nodes beside the claims.
const (
	markBroken = "b" // a broken grant, by its token
	markDelay  = "d" // the lock-delay of a claim, by its id
)

// claim is the ephemeral node of a holder or waiter, by its name:
//
//	KIND.HOLDER.ID.MOVE.NUMBER
//
// HOLDER is a digest of the holder's id. ID is drawn for each claim. MOVE is
// drawn again when the claim moves to another session, and NUMBER, which the
// servers count up, is the place in the line and stays.
type claim struct {
	node   string // its name
	kind   string
	holder string
	id     string
	number int32
}

func kindOf(r *driver.Request) string {
	switch {
	case r.Mode == driver.Shared:
		return kindShared
	case r.Permits > 1:
		return kindPermits + strconv.Itoa(r.Permits)
	default:
		return kindExclusive
	}
}

// usageOf says which kinds get along: locks of both modes, and semaphores with
// the same number.
func usageOf(kind string) string {
	if kind == kindShared {
		return kindExclusive
	}
	return kind
}

// modeOf returns the mode and the permits of a kind.
func modeOf(kind string) (driver.Mode, int) {
	if kind == kindShared {
		return driver.Shared, 1
	}
	if n, ok := strings.CutPrefix(kind, kindPermits); ok {
		permits, _ := strconv.Atoi(n) // it was read before
		return driver.Exclusive, permits
	}
	return driver.Exclusive, 1
}

func digest(holder string) string { return fmt.Sprintf("%016x", xxhash.Sum64String(holder)) }

// newID draws what tells a claim from all others, in letters and digits.
func newID() string { return rand.Text() }

// nodeName returns a name without its number.
func nodeName(kind, holder, id string) string {
	return strings.Join([]string{kind, holder, id, rand.Text()[:8], ""}, ".")
}

// parseClaim reads the name of a claim's node.
func parseClaim(node string) (claim, bool) {
	f := strings.Split(node, ".")
	if len(f) != 5 {
		return claim{}, false
	}
	n, err := strconv.ParseInt(f[4], 10, 32)
	permits, isPermits := strings.CutPrefix(f[0], kindPermits)
	if isPermits {
		if p, err := strconv.Atoi(permits); err != nil || p < 2 || p > driver.MaxPermits {
			return claim{}, false
		}
	}
	if err != nil || !isPermits && f[0] != kindExclusive && f[0] != kindShared {
		return claim{}, false
	}
	return claim{node: node, kind: f[0], holder: f[1], id: f[2], number: int32(n)}, true
}

// view is what there is of one name at one moment.
type view struct {
	claims []claim // in the order of the line
	broken []string
	delays []string // ids of claims
}

func parseView(children []string) *view {
	v := &view{}
	for _, node := range children {
		if c, ok := parseClaim(node); ok {
			v.claims = append(v.claims, c)
			continue
		}
		switch kind, id, _ := strings.Cut(node, "."); kind {
		case markBroken:
			v.broken = append(v.broken, id)
		case markDelay:
			v.delays = append(v.delays, id)
		}
	}
	// Numbers wrap around after two billion claims on one container.
	if len(v.claims) > 0 {
		origin := v.claims[0].number
		slices.SortFunc(v.claims, func(a, b claim) int { return cmp.Compare(a.number-origin, b.number-origin) })
	}
	return v
}

// find returns the place of a node in the line, -1 if it is not there.
func (v *view) find(node string) int {
	return slices.IndexFunc(v.claims, func(c claim) bool { return c.node == node })
}

// fits reports whether a claim of a kind behind the first n could be granted.
func (v *view) fits(kind string, n int) bool {
	if n == 0 {
		return true
	}
	if kind == kindExclusive {
		return false
	}
	most := math.MaxInt
	if kind != kindShared {
		_, most = modeOf(kind)
	}
	return n < most && !slices.ContainsFunc(v.claims[:n], func(c claim) bool { return c.kind != kind })
}

// granted counts the claims that are, if the name is not closed.
func (v *view) granted() int {
	for i := range v.claims {
		if !v.fits(v.claims[i].kind, i) {
			return i
		}
	}
	return len(v.claims)
}

// orphans returns the lock-delays whose claims are gone: they close the name.
func (v *view) orphans() []string {
	var out []string
	for _, id := range v.delays {
		if !slices.ContainsFunc(v.claims, func(c claim) bool { return c.id == id }) {
			out = append(out, id)
		}
	}
	return out
}

func (c *conn) shardPath(name string) string { return c.root + "/" + shardOf(name) }

func (c *conn) namePath(name string) string { return c.shardPath(name) + "/" + escape(name) }
