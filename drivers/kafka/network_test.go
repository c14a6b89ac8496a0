package kafka

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/queue"
)

// shortSession is after how long the group gives away the partitions of a client
// that is not heard of.
const shortSession = 2 * time.Second

// openBehind opens queues at a broker that is reached by a proxy alone, whatever
// address it says that it has.
func openBehind(t *testing.T, addr string) (*queue.Broker, *drivertest.Proxy) {
	t.Helper()
	p := drivertest.NewProxy(t, addr)
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, p.Addr())
	}
	c, err := New(t.Context(), []kgo.Opt{kgo.SeedBrokers(addr), kgo.Dialer(dial)},
		&Options{Timeout: 3 * time.Second, Session: shortSession, Drain: time.Second, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	b := queue.New(c, quiet)
	t.Cleanup(func() { _ = b.Close() }) // what it could not hand back is no concern here
	return b, p
}

// TestConnectionsCut cuts all connections of publisher and consumers, again and
// again.
func TestConnectionsCut(t *testing.T) {
	t.Parallel()
	addr := realserver.SharedKafka(t).Addr()
	pub, near := openBehind(t, addr)
	sub, far := openBehind(t, addr)
	tr := newTraffic(t, pub, "cut")
	tr.run(pub, func(context.Context) {
		for range 2 * times(t) {
			tr.progress(100)
			near.Cut()
			tr.progress(100)
			far.Cut()
		}
		tr.progress(100)
	}, sub)
}

// TestBlackHole lets nothing through to or from one of two consumers, for as
// long as it takes the other to have its partitions, and then to or from the
// publisher. What was held back arrives late, or never.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	addr := realserver.SharedKafka(t).Addr()
	pub, near := openBehind(t, addr)
	one, far := openBehind(t, addr)
	two, _ := openBehind(t, addr)
	tr := newTraffic(t, pub, "black hole")
	holes := [...][]int{{drivertest.ToServer, drivertest.ToClient}, {drivertest.ToClient}, {drivertest.ToServer}}
	tr.run(pub, func(context.Context) {
		for i := range times(t) {
			hole := func(p *drivertest.Proxy, while func()) {
				p.Swallow(holes[i%len(holes)]...)
				while()
				if i%2 == 1 {
					p.Cut()
				}
				p.Heal()
				tr.progress(100)
			}
			tr.progress(100)
			hole(far, func() {
				drivertest.Pause(shortSession)
				tr.progressOfAll()
			})
			hole(near, func() { drivertest.Pause(time.Second) })
		}
	}, one, two)
}

// TestDelay has everything arrive late, and then later.
func TestDelay(t *testing.T) {
	t.Parallel()
	addr := realserver.SharedKafka(t).Addr()
	pub, near := openBehind(t, addr)
	sub, far := openBehind(t, addr)
	tr := newTraffic(t, pub, "delay")
	tr.run(pub, func(context.Context) {
		for i := range times(t) {
			late := time.Duration(20+40*(i%5)) * time.Millisecond
			near.Delay(late)
			far.Delay(2 * late)
			tr.progress(5 * trafficKeys)
		}
		near.Delay(0)
		far.Delay(0)
		tr.progress(100)
	}, sub)
}
