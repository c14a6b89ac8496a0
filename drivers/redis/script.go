package redis

import (
	"crypto/sha1" //nolint:gosec // how Redis names a script, not a matter of safety
	_ "embed"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// How the line of a name is kept alive; see the package comment.
const (
	waiterLife  = 5 * time.Second        // a waiter that is not heard of for so long loses its place
	headGrace   = 800 * time.Millisecond // so long when it is its turn and it was called
	checkPeriod = 900 * time.Millisecond // how often a waiter looks, called or not

	// cancelLife is how long a Cancel is remembered, in case that it has
	// overtaken its request. It outlasts what a network may hold back.
	cancelLife = time.Minute

	// deadWaiter is how long at most a dead waiter is in the way: the one
	// behind it looks within checkPeriod, and by then headGrace is over, or it
	// looks at its end. If the name came free by an expiry, it looked then, for
	// no TTL is shorter than checkPeriod.
	deadWaiter = time.Second
)

// Bounds on what one name can have.
const (
	MaxWaiters      = 10_000 // places in the line of a name
	MaxSharedGrants = 10_000 // shared grants of a name
)

// status is the first element of a script's reply.
type status int64

const (
	statusGranted status = iota + 1
	statusQueued
	statusHeld
	statusAlreadyHeld
	statusNotHeld
	statusConflict
	statusRevoked
	statusBroken
	statusLimit
	statusRenewed
	statusReleased
	statusCancelled
	statusValueSet
)

// statusNames are what the scripts call them, in order.
const statusNames = "GRANTED, QUEUED, HELD, ALREADY_HELD, NOT_HELD, CONFLICT, REVOKED, BROKEN, LIMIT, RENEWED, RELEASED, CANCELLED, VALUE_SET"

var (
	//go:embed lua/prelude.lua
	preludeText string
	//go:embed lua/acquire_free.lua
	acquireFreeText string
	//go:embed lua/acquire.lua
	acquireText string
	//go:embed lua/renew.lua
	renewText string
	//go:embed lua/release_next.lua
	releaseNextText string
	//go:embed lua/release_alone.lua
	releaseAloneText string
	//go:embed lua/release.lua
	releaseText string
	//go:embed lua/cancel.lua
	cancelText string
	//go:embed lua/revoke.lua
	revokeText string
	//go:embed lua/set_value.lua
	setValueText string
	//go:embed lua/describe.lua
	describeText string
)

// script is one step, sent by its digest.
type script struct{ text, sha string }

var (
	acquireScript  = newScript(acquireFreeText, acquireText)
	renewScript    = newScript("", renewText)
	releaseScript  = newScript(releaseNextText+releaseAloneText, releaseText)
	cancelScript   = newScript("", cancelText)
	revokeScript   = newScript("", revokeText)
	setValueScript = newScript("", setValueText)
	describeScript = newScript("", describeText)
)

// newScript puts a script together: short ways that may return, what all
// have in common, and the long way.
func newScript(short, long string) *script {
	text := constants.Replace(short + preludeText + long)
	sum := sha1.Sum([]byte(text)) //nolint:gosec // see the import
	return &script{text: text, sha: hex.EncodeToString(sum[:])}
}

// constants fills in the scripts' constants.
var constants = makeConstants()

func makeConstants() *strings.Replacer {
	var values []string
	for i := range strings.Split(statusNames, ",") {
		values = append(values, strconv.Itoa(i+1))
	}
	return strings.NewReplacer(
		"$LIVE", micros(waiterLife), "$GRACE", micros(headGrace), "$PERIOD", micros(checkPeriod),
		"$CANCELLED_LIFE", micros(cancelLife), "$KINDS", strconv.Itoa(len(keyKinds)),
		"$MAX_SHARED", strconv.Itoa(MaxSharedGrants), "$MAX_WAITERS", strconv.Itoa(MaxWaiters),
		"$MAX_DELAY", micros(driver.MaxLockDelay),
		"$STATUS_NAMES", statusNames, "$GRANTED", strconv.Itoa(int(statusGranted)), "$RELEASED", strconv.Itoa(int(statusReleased)),
		"$STATUS_VALUES", strings.Join(values, ", "),
	)
}

// micros writes a length of time as the scripts read it, rounded down: what is
// granted is never more than what was asked.
func micros(d time.Duration) string { return strconv.FormatInt(d.Microseconds(), 10) }

// reply is what a script returned, read element by element.
type reply struct {
	items []any
	err   error
}

func (r *reply) next() any {
	if len(r.items) == 0 {
		r.fail(nil)
		return nil
	}
	item := r.items[0]
	r.items = r.items[1:]
	return item
}

func (r *reply) fail(item any) {
	if r.err == nil {
		r.err = fmt.Errorf("a script's reply cannot be read at %v", item)
	}
}

// int reads a number, which is a string where it may be large.
func (r *reply) int() int64 {
	switch v := r.next().(type) {
	case int64:
		return v
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			r.fail(v)
		}
		return n
	default:
		r.fail(v)
		return 0
	}
}

func (r *reply) string() string {
	item := r.next()
	s, ok := item.(string)
	if !ok {
		r.fail(item)
	}
	return s
}

// micros reads a length of time.
func (r *reply) micros() time.Duration { return time.Duration(r.int()) * time.Microsecond }

// list reads a list within the reply.
func (r *reply) list() *reply {
	item := r.next()
	items, ok := item.([]any)
	if !ok {
		r.fail(item)
	}
	return &reply{items: items}
}
