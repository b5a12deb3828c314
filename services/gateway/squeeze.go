package gateway

import (
	"encoding/json"
	"math/bits"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services"
)

// PropertySqueeze sends a share of a VIP's requests to one instance and the
// others to the rest. It ends by itself at its time: who dies while squeezing
// leaves nothing behind.
const PropertySqueeze = "gateway.squeeze"

// Squeeze is the value of the property gateway.squeeze.
type Squeeze struct {
	VIP      string `json:"vip"`
	Instance string `json:"instance"`
	// Share of the VIP's requests that the instance gets, 0 to 1.
	Share float64 `json:"share"`
	// Step tells one share from the next: counting begins anew with each.
	Step int `json:"step"`
	// UntilMS is when it ends, in milliseconds of Unix time.
	UntilMS int64 `json:"until_unix_ms"`
}

// ParseSqueeze reads and checks the property; "" is none.
func ParseSqueeze(text string) (Squeeze, error) {
	var q Squeeze
	if text == "" {
		return q, nil
	}
	if err := json.Unmarshal([]byte(text), &q); err != nil {
		return Squeeze{}, &services.Error{Op: "squeeze", Kind: services.Invalid, Msg: `want {"vip":"play","instance":"ID","share":0..1,"until_unix_ms":N}`, Err: err}
	}
	if !vipForm.MatchString(q.VIP) || !idForm.MatchString(q.Instance) || !(q.Share >= 0 && q.Share <= 1) || q.UntilMS <= 0 {
		return Squeeze{}, services.Errorf(services.Invalid, "squeeze: it needs a vip, an instance, a share from 0 to 1 and an end")
	}
	return q, nil
}

// SqueezeReport is what a gateway saw of the squeezed instance in one step.
type SqueezeReport struct {
	Squeeze
	// Requests that the instance answered or failed, Errors those it failed:
	// no answer, or a status of 500 and more.
	Requests int64 `json:"requests"`
	Errors   int64 `json:"errors"`
	// Others of the VIP's requests went to other instances.
	Others int64 `json:"others"`
	// MS is how long the step has been counted, in milliseconds.
	MS float64 `json:"ms"`
	// Times count the requests by how long they took: see LatencyBucket.
	Times []int64 `json:"times"`
}

// latencyBuckets cover 1 µs to more than a minute, 16 to each doubling: a
// bucket is at most 6.25 % wide.
const (
	latencySub     = 16
	latencyBuckets = 27 * latencySub
)

// latencyBucket is the bucket of a duration.
func latencyBucket(d time.Duration) int {
	us := uint64(max(d.Microseconds(), 1))
	exp := bits.Len64(us) - 1
	sub := 0
	if exp >= 4 {
		sub = int(us>>(exp-4)) & (latencySub - 1)
	} else {
		sub = int(us<<(4-exp)) & (latencySub - 1)
	}
	return min(exp*latencySub+sub, latencyBuckets-1)
}

// LatencyBucket is the upper end of a bucket of SqueezeReport.Times.
func LatencyBucket(k int) time.Duration {
	exp, sub := k/latencySub, k%latencySub
	us := float64(uint64(1)<<exp) * (1 + float64(sub+1)/latencySub)
	return time.Duration(us * float64(time.Microsecond))
}

// squeeze is a Squeeze in force.
type squeeze struct {
	Squeeze
	vip      string
	began    time.Time
	until    atomic.Int64 // Unix nanoseconds
	requests atomic.Int64
	errors   atomic.Int64
	others   atomic.Int64
	times    [latencyBuckets]atomic.Int64
}

// steer decides for one request of the VIP.
func (q *squeeze) steer(ex *Exchange) {
	if ex.Received.UnixNano() >= q.until.Load() {
		return
	}
	if rand.Float64() < q.Share {
		ex.pin, ex.squeeze = q.Instance, q
		return
	}
	ex.avoid = q.Instance
	q.others.Add(1)
}

// answered counts what became of a request that was sent to the instance. One
// that it did not answer, though another did, is an error of its own.
func (q *squeeze) answered(ex *Exchange, took time.Duration) {
	q.requests.Add(1)
	q.times[latencyBucket(took)].Add(1)
	good := len(ex.Attempts) > 0 && ex.Attempts[0].Server == q.Instance && ex.Attempts[0].Outcome == string(answered)
	if !good || ex.Response.Status >= http.StatusInternalServerError {
		q.errors.Add(1)
	}
}

// Squeezed reports the squeeze in force, or the zero report.
func (s *Server) Squeezed() SqueezeReport {
	q := s.settings.squeeze.Load()
	if q == nil {
		return SqueezeReport{Times: []int64{}}
	}
	r := SqueezeReport{Squeeze: q.Squeeze, Requests: q.requests.Load(), Errors: q.errors.Load(), Others: q.others.Load(),
		MS: milliseconds(time.Since(q.began)), Times: make([]int64, latencyBuckets)}
	for k := range q.times {
		r.Times[k] = q.times[k].Load()
	}
	return r
}

func (st *settings) setSqueeze(value string) error {
	q, err := ParseSqueeze(value)
	if err != nil {
		return err
	}
	if value == "" {
		st.squeeze.Store(nil)
		return nil
	}
	until := time.UnixMilli(q.UntilMS).UnixNano()
	if old := st.squeeze.Load(); old != nil && old.VIP == q.VIP && old.Instance == q.Instance && old.Step == q.Step && old.Share == q.Share {
		old.until.Store(until) // the same step goes on for longer, and so does its count
		return nil
	}
	next := &squeeze{Squeeze: q, vip: q.VIP, began: time.Now()}
	next.until.Store(until)
	st.squeeze.Store(next)
	return nil
}
