package machine

import (
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Results of commits lie in buckets by the time of their commit, so that they
// can be dropped as ranges. A class has one width of buckets; a result is put
// where resultBuckets of them last as long as it is to be remembered. The
// widths of the classes grow by resultGrowth from resultWidth on.
const (
	resultClasses = 8
	resultBuckets = 3
	resultGrowth  = 4
	resultWidth   = time.Minute
)

func widthOf(class byte) int64 {
	w := int64(resultWidth)
	for range class {
		w *= resultGrowth
	}
	return w
}

// classOf returns the class of what is to be remembered for so long.
func classOf(d time.Duration) byte {
	for class := byte(0); ; class++ {
		if class == resultClasses-1 || resultBuckets*widthOf(class) >= int64(d) {
			return class
		}
	}
}

// results knows in which buckets there are results. They themselves are in
// the store, but for those of the round.
type results struct {
	buckets [resultClasses][]int64 // sorted, few
	round   map[string]*record.Result
}

func newResults() results { return results{round: make(map[string]*record.Result)} }

func (r *results) add(class byte, bucket int64) {
	if int(class) >= len(r.buckets) {
		return // of a later program: it is left alone
	}
	bs := &r.buckets[class]
	if i, there := slices.BinarySearch(*bs, bucket); !there {
		*bs = slices.Insert(*bs, i, bucket)
	}
}

// tick drops the buckets that are over.
func (r *results) tick(now Time, ch Changes) {
	clear(r.round)
	for class := range r.buckets {
		bs := &r.buckets[class]
		if len(*bs) == 0 {
			continue
		}
		below := now.Wall/widthOf(byte(class)) - resultBuckets
		if n, _ := slices.BinarySearch(*bs, below); n > 0 {
			ch.DropResults(byte(class), below)
			*bs = slices.Delete(*bs, 0, n)
		}
	}
}

// find returns what was recorded under an id and still counts, or nil.
func (r *results) find(now Time, view View, id string) (*record.Result, error) {
	if rec := r.round[id]; rec != nil {
		return rec, nil
	}
	for class := range r.buckets {
		for _, bucket := range slices.Backward(r.buckets[class]) {
			rec, err := view.Result(byte(class), bucket, id)
			if err != nil {
				return nil, err
			}
			if rec != nil && rec.Until > now.Wall {
				return rec, nil
			}
		}
	}
	return nil, nil
}

// put records the outcome of a commit.
func (r *results) put(now Time, ch Changes, t *queuedriver.Txn, digest [32]byte, out *queuedriver.TxnResult) {
	rec := &record.Result{Digest: digest, Until: now.Wall + int64(t.ResultFor), Result: t.Result}
	for i := range out.Settled {
		rec.Settled = append(rec.Settled, out.Settled[i].DeadLettered)
	}
	for i := range out.Receipts {
		rec.Receipts = append(rec.Receipts, record.Receipt{Queues: out.Receipts[i].Queues, Duplicate: out.Receipts[i].Duplicate})
	}
	class := classOf(t.ResultFor)
	bucket := now.Wall / widthOf(class)
	r.add(class, bucket)
	r.round[t.ID] = rec
	ch.PutResult(class, bucket, t.ID, rec)
}

// repeated turns a record into what its commit returned.
func repeated(r *record.Result) *queuedriver.TxnResult {
	out := &queuedriver.TxnResult{Result: r.Result, Repeated: true}
	for _, dead := range r.Settled {
		out.Settled = append(out.Settled, queuedriver.Outcome{DeadLettered: dead})
	}
	for _, p := range r.Receipts {
		out.Receipts = append(out.Receipts, queuedriver.Receipt{Queues: p.Queues, Duplicate: p.Duplicate})
	}
	return out
}
