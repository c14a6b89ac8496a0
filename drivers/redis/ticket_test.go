package redis

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// A place that is made up, or taken from somebody else, is at the end of the
// line; one that was given is kept.
func TestForgedTicketDoesNotJumpTheLine(t *testing.T) {
	t.Parallel()
	url := "redis://" + realserver.SharedRedis(t).Addr()
	ctx := drivertest.Bounded(t)
	c := drivertest.OpenConn(t, url)
	name := drivertest.Fresh(t)
	request := func(holder string, ticket *driver.Ticket) *driver.Request {
		return &driver.Request{Name: name, Holder: holder, ID: "1", TTL: time.Minute, Queue: true, Ticket: ticket}
	}
	queue := func(holder string, ticket *driver.Ticket) *driver.Ticket {
		t.Helper()
		g, ticket, err := c.Acquire(ctx, request(holder, ticket))
		if err != nil || g != nil {
			t.Fatalf("%s: %v, %v; want a place", holder, g, err)
		}
		return ticket
	}
	if g, _, err := c.Acquire(ctx, request("holder", nil)); err != nil || g == nil {
		t.Fatal(g, err)
	}
	first, second := queue("first", nil), queue("second", nil)
	place, code, _ := strings.Cut(first.Opaque, ".")
	n, err := strconv.ParseInt(place, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	for who, forged := range map[string]string{
		"made up":   writeTicket(n-1, strings.Repeat("0", sealDigits)),
		"changed":   writeTicket(n-1, code),
		"another's": first.Opaque,
	} {
		if got := queue(who, &driver.Ticket{Opaque: forged}); got.Position != 3 {
			t.Errorf("%s: position %d; want the end of the line", who, got.Position)
		}
		if err := c.Cancel(ctx, request(who, nil)); err != nil {
			t.Error(err)
		}
	}
	for _, malformed := range []string{"", "1", "0." + code, place + "." + code + "0", place + "." + strings.ToUpper(code[:15]) + "G", "+" + first.Opaque} {
		var f *lease.FieldError
		if _, _, err := c.Acquire(ctx, request("x", &driver.Ticket{Opaque: malformed})); !errors.As(err, &f) || f.Field != "ticket" {
			t.Errorf("%q: %v; want an error about the ticket", malformed, err)
		}
	}
	// The line forgets one that is silent; its ticket brings it back.
	if err := c.Cancel(ctx, request("first", nil)); err != nil {
		t.Fatal(err)
	}
	if got := queue("second", second); got.Position != 1 {
		t.Errorf("second: position %d after the first has left", got.Position)
	}
	back := drivertest.OpenConn(t, url)
	_, got, err := back.Acquire(ctx, request("first", first))
	if err != nil || got == nil || got.Position != 1 || got.Opaque != first.Opaque {
		t.Errorf("first came back to %+v, %v", got, err)
	}
}
