package gateway

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// Phase of a filter.
type Phase int

// The phases. Inbound filters run in order until one fails. Then the first
// endpoint that applies answers, unless an inbound filter failed. Outbound
// filters run always.
const (
	Inbound Phase = iota
	Endpoint
	Outbound
)

// String names the phase as the admin endpoint and the command line do.
func (p Phase) String() string {
	switch p {
	case Inbound:
		return "inbound"
	case Endpoint:
		return "endpoint"
	case Outbound:
		return "outbound"
	}
	return "unknown"
}

// Filter is one step of a request. It has Run (synchronous) or Start
// (asynchronous), and keeps the exchange in neither.
//
// What becomes of an error: that of an inbound or endpoint filter is the
// exchange's Err; no further inbound filter runs, no endpoint does, and the
// outbound filters make an answer of it. That of an outbound filter replaces
// the answer. An Optional filter's error is counted and changes nothing. A
// panic is an error of that one request.
type Filter struct {
	// Name is unique and part of the properties that govern the filter.
	Name string
	// Phase and Order place it; equal orders run by name.
	Phase Phase
	Order int
	// Applies says whether to run it; nil is always. An endpoint that does
	// not apply leaves the request to the next one.
	Applies func(*Exchange) bool
	// Run does the work on the request's goroutine.
	Run func(*Exchange) error
	// Start begins work that goes on beside the filters after this one. The
	// phase ends when all work begun in it has; it must not be an endpoint's.
	Start func(*Exchange) Task
	// Timeout bounds a Task; 0 is the gateway's deadline for requests.
	Timeout time.Duration
	// Concurrency is how many requests may be in the filter at once unless
	// the property gateway.filter.<name>.concurrency says otherwise; 0 is any
	// number. One too many is refused with reason filter_concurrency.
	Concurrency int
	// Optional says that a request is better off without the filter than
	// refused: its errors, the limit's included, are counted and no more.
	Optional bool
	// Options are the filter's own settings, each the property
	// gateway.filter.<name>.<option>.
	Options []Option
}

// Task is the work of an asynchronous filter.
type Task struct {
	// Do runs on a goroutine of its own and must not touch the exchange. Its
	// context ends with the request, the filter's Timeout, or the failure of
	// another filter of the phase.
	Do func(context.Context) error
	// Done, unless nil, takes over what Do found: it runs on the request's
	// goroutine at the end of the phase if Do succeeded.
	Done func(*Exchange) error
}

// Option is one setting of a filter.
type Option struct {
	Name string
	// Doc says what it does, Default what holds while it is not set.
	Doc, Default string
	// Set takes a value over; "" is the default. A value that is refused with
	// an error leaves the setting as it was.
	Set func(value string) error
}

// step is a filter in its chain, with what it has counted.
type step struct {
	Filter
	id       uint8 // place in chain.all
	log      *slog.Logger
	disabled atomic.Bool
	limit    atomic.Int64 // requests in it at once; 0 is any number
	inFlight atomic.Int64
	ok       atomic.Uint64
	failed   atomic.Uint64
	rejected atomic.Uint64
	// nanos is the time spent in the first timed of the runs, as estimated.
	nanos atomic.Int64
	timed atomic.Uint64
}

// enter counts a request in, unless too many are in the filter already.
func (st *step) enter() bool {
	limit := st.limit.Load()
	if limit == 0 {
		return true
	}
	if st.inFlight.Add(1) > limit {
		st.inFlight.Add(-1)
		st.rejected.Add(1)
		return false
	}
	return true
}

// leave counts it out. A limit that is set while requests are under way sees
// some leave that it did not see enter: the count stops at zero.
func (st *step) leave(limited bool) {
	if limited && st.inFlight.Add(-1) < 0 {
		st.inFlight.Add(1)
	}
}

// ran notes one run; took is below 0 where nobody looked at the clock. A run
// that is timed stands for those since the last one, so that the sum only
// grows.
func (st *step) ran(took time.Duration, err error) {
	if err != nil {
		st.failed.Add(1)
	} else {
		st.ok.Add(1)
	}
	if took >= 0 {
		runs := st.runs()
		if since := runs - st.timed.Swap(runs); since > 0 && since <= runs {
			st.nanos.Add(int64(took) * int64(since))
		}
	}
}

func (st *step) runs() uint64 { return st.ok.Load() + st.failed.Load() }

// mean is about how long a run takes.
func (st *step) mean() time.Duration {
	n := st.timed.Load()
	if n == 0 {
		return 0
	}
	return time.Duration(uint64(st.nanos.Load()) / n)
}
