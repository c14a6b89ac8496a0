package closegroup_test

import (
	"sync/atomic"
	"testing"

	"github.com/lockkeeper/lockkeeper/internal/closegroup"
)

func TestGroup(t *testing.T) {
	t.Parallel()
	var g closegroup.Group
	begin := make(chan struct{})
	var ended atomic.Int32
	for range 3 {
		if !g.Start(func() { <-begin; ended.Add(1) }) {
			t.Fatal("an open group does not start")
		}
	}
	g.Close()
	if g.Start(func() { ended.Add(100) }) {
		t.Error("a closed group starts")
	}
	close(begin)
	g.Wait()
	if n := ended.Load(); n != 3 {
		t.Errorf("%d have ended when Wait returns, want 3", n)
	}
}

// What is started while the group is closed is either waited for or refused.
func TestGroupStartBesideClose(t *testing.T) {
	t.Parallel()
	for range 1000 {
		var g closegroup.Group
		var ran atomic.Bool
		started := make(chan bool, 1)
		go func() { started <- g.Start(func() { ran.Store(true) }) }()
		g.Close()
		g.Wait()
		if before := ran.Load(); <-started && !before {
			t.Fatal("Wait returned before what had started")
		}
	}
}
