package locktest

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// harness is the reference driver with a flaw. A restart loses tickets' places
// and keeps the rest.
func harness(f flaw) Harness {
	st := newStore(f)
	return Harness{
		Open: func(testing.TB) driver.Conn { return st.open() },
		Restart: func(testing.TB) {
			st.mu.Lock()
			defer st.mu.Unlock()
			for _, n := range st.names {
				n.line = nil
				if f == "grants lost in a restart" {
					n.grants = nil
				}
				for _, g := range n.grants {
					if f == "values lost in a restart" {
						g.Value = nil
					}
				}
			}
			if f == "tokens lost in a restart" {
				st.counter = 0
			}
		},
		Cut:      func(_ testing.TB, c driver.Conn, cut bool) { c.(*refConn).setCut(cut) },
		ShortTTL: 300 * time.Millisecond,
		Waiters:  100,
	}
}

func TestReference(t *testing.T) { Run(t, harness("")) }

// TestSuiteFindsFlaws runs the suite against drivers that are wrong in one way
// each: a case that names the promise must fail.
func TestSuiteFindsFlaws(t *testing.T) { //nolint:tparallel // its parts run side by side, beside nothing else
	for f, cases := range map[flaw][]string{
		"overlapping grants":             {"mutual_exclusion", "try_held_leaves_no_trace"},
		"tokens repeat":                  {"token_grows_across_releases", "mutual_exclusion"},
		"tokens forgotten with the name": {"token_grows_across_releases"},
		"expires early":                  {"expires_after_its_ttl", "loss_before_the_next_grant"},
		"no lock delay":                  {"lock_delay_after_unclean_loss"},
		"dead waiters stay":              {"dead_waiter_is_passed", "several_names_dead_waiter_is_passed"},
		"no order":                       {"waiters_granted_in_order"},
		"readers overtake":               {"writer_is_not_starved"},
		"newcomers overtake":             {"newcomer_does_not_overtake", "several_names_wait_in_every_line"},
		"waited not told":                {"waited_counts_from_the_call"},
		"second request accepted":        {"second_request_is_refused"},
		"repeat gets a new token":        {"repeat_gets_the_same_grant"},
		"repeat loses the place":         {"repeat_keeps_the_place"},
		"permits disagree":               {"permits_mismatch_is_a_conflict"},
		"try leaves a trace":             {"try_held_leaves_no_trace"},
		"tickets forgotten":              {"restart_keeps_the_line", "several_names_restart"},
		"stale tokens accepted":          {"stale_token_refused"},
		"nobody is woken":                {"waiter_is_woken"},
		"works when closed":              {"closed_connection_refuses"},
		"limits not checked":             {"limits_one_past", "batch_limit", "bad_names_are_refused", "several_names_limit", "value_limit", "watch_of_bad_names_is_refused"},
		"nothing stated":                 {"capabilities_are_stated"},
		"cancel does nothing":            {"cancel_leaves_the_line", "cancel_releases_grant"},
		"cancel too broad":               {"cancel_of_unknown"},
		"revoked is renewed":             {"revoke_refuses_renewal_until_the_deadline", "revoked_holder_is_told"},
		"revoke breaks":                  {"revoke_refuses_renewal_until_the_deadline"},
		"renewal does nothing":           {"renewed_lease_does_not_expire"},
		"pages overlap":                  {"list_pages"},
		"grants lost in a restart":       {"restart_keeps_grants_and_tokens"},
		"tokens lost in a restart":       {"restart_keeps_grants_and_tokens"},
		"half of a set":                  {"several_names_all_or_nothing"},
		"each line has its order":        {"several_names_do_not_wait_in_a_circle"},
		"cancel of the first name":       {"several_names_cancel"},
		"deadlocks stay": {
			"deadlock_of_two", "deadlock_of_three", "deadlock_by_the_holders_own_waits", "deadlock_through_several_names",
			"deadlock_through_the_line", "deadlock_through_shared_holders", "deadlock_by_context",
		},
		"the oldest is cut":            {"deadlock_of_two"},
		"the line is not looked at":    {"deadlock_through_the_line"},
		"semaphores make circles":      {"no_false_deadlock"},
		"reentrance waits":             {"reentrance_is_refused", "upgrade_is_refused"},
		"value is not shown":           {"value_is_shown_with_the_grant", "election_and_observer"},
		"anybody sets the value":       {"value_is_replaced_by_its_holder_only"},
		"values lost in a restart":     {"value_survives_a_restart"},
		"watch without a first state":  {"watch_begins_with_the_state"},
		"watch without ends":           {"watch_tells_every_last_state", "watch_of_one_name", "election_and_observer"},
		"abandoned calls lose events":  {"watch_loses_nothing_when_a_call_is_abandoned"},
		"watch drops what is too much": {"watch_begins_anew_when_it_falls_behind"},
	} {
		for _, name := range cases {
			t.Run(fmt.Sprintf("%s/%s", f, name), func(t *testing.T) {
				t.Parallel()
				i := slices.IndexFunc(allCases(), func(c testCase) bool { return c.name == name })
				if i < 0 {
					t.Fatalf("there is no case %q", name)
				}
				if !fails(t, harness(f), allCases()[i]) {
					t.Errorf("the case passes")
				}
			})
		}
	}
}

// fails runs a case as a test of its own and reports whether it failed.
func fails(t *testing.T, h Harness, c testCase) bool {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() { // a Fatal ends the goroutine
		defer close(done)
		defer r.cleanUp()
		runCase(r, h, c, 2*time.Second)
	}()
	<-done
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

// recorder is a testing.TB whose failures are not those of the test.
type recorder struct {
	testing.TB
	mu      sync.Mutex
	failed  bool
	cleanup []func()
}

func (r *recorder) Errorf(string, ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Helper() {}

func (r *recorder) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanup = append(r.cleanup, f)
}

func (r *recorder) cleanUp() {
	for _, f := range slices.Backward(r.cleanup) {
		f()
	}
}
