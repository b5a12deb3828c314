package limit

import (
	"sync"
	"sync/atomic"
	"time"
)

// Outcome of a call, as a limit sees it.
type Outcome int

const (
	// Done: the call was answered; its time is a sample.
	Done Outcome = iota
	// Dropped: the call timed out or was refused for load; its time is a
	// sample, and the limit goes down.
	Dropped
	// Ignored: the call says nothing about load (the caller went away, or the
	// answer came at once as an error).
	Ignored
)

// Ticket is a place taken. Give it back with Release exactly once.
type Ticket struct{ inFlight int64 }

// Limiter bounds calls by an algorithm's limit. It is safe for concurrent use.
type Limiter struct {
	config   Config
	limit    atomic.Int64
	inFlight atomic.Int64
	refused  atomic.Uint64

	mu     sync.Mutex
	algo   algorithm
	window sampleWindow
}

// algorithm finds a new limit from one window: the mean time of its calls, the
// most that were under way at once, and whether any was dropped.
type algorithm interface {
	update(rtt float64, inFlight int64, dropped bool) int64
}

// New makes a limiter. Fields of the configuration that are zero take the
// algorithm's defaults.
func New(c Config) (*Limiter, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	l := &Limiter{config: c, algo: c.algorithm()}
	l.limit.Store(int64(c.Initial))
	return l, nil
}

// Config returns the limiter's configuration, complete.
func (l *Limiter) Config() Config { return l.config }

// Limit is how many calls may be under way at once now.
func (l *Limiter) Limit() int { return int(l.limit.Load()) }

// InFlight counts the places taken.
func (l *Limiter) InFlight() int { return int(l.inFlight.Load()) }

// Refused counts the calls that got no place, since the limiter was made.
func (l *Limiter) Refused() uint64 { return l.refused.Load() }

// Acquire takes a place, or says that there is none.
func (l *Limiter) Acquire() (Ticket, bool) {
	n := l.inFlight.Add(1)
	if n > l.limit.Load() {
		l.inFlight.Add(-1)
		l.refused.Add(1)
		return Ticket{}, false
	}
	return Ticket{n}, true
}

// Release gives a place back. now is any monotonic clock, the same at each
// call; rtt is how long the call took.
func (l *Limiter) Release(t Ticket, now, rtt time.Duration, o Outcome) {
	l.inFlight.Add(-1)
	l.Sample(now, rtt, t.inFlight, o)
}

// Sample tells of a call whose place somebody else counts: how long it took,
// and how many were under way with it.
func (l *Limiter) Sample(now, rtt time.Duration, inFlight int64, o Outcome) {
	if o == Ignored || rtt < minRTT {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &l.window
	w.add(rtt, inFlight, o == Dropped)
	if now <= w.next {
		return
	}
	ended := *w
	*w = sampleWindow{next: now + min(max(2*ended.least, minWindow), maxWindow)}
	if ended.samples >= minSamples {
		l.limit.Store(l.algo.update(float64(ended.sum)/float64(ended.samples), ended.inFlight, ended.dropped))
	}
}

// Bounds of a window, as in WindowedLimit: calls shorter than minRTT are noise,
// and fewer than minSamples say nothing.
const (
	minWindow  = time.Second
	maxWindow  = time.Second
	minSamples = 10
	minRTT     = 100 * time.Microsecond
)

// sampleWindow is the calls that ended since the last update.
type sampleWindow struct {
	next       time.Duration // when it ends
	sum, least time.Duration
	samples    int
	inFlight   int64 // most at once
	dropped    bool
}

func (w *sampleWindow) add(rtt time.Duration, inFlight int64, dropped bool) {
	if w.samples == 0 || rtt < w.least {
		w.least = rtt
	}
	w.sum += rtt
	w.samples++
	w.inFlight = max(w.inFlight, inFlight)
	w.dropped = w.dropped || dropped
}
