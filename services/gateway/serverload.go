package gateway

import (
	"math"
	"sync/atomic"
	"time"
)

// load is what a gateway knows of a server. Everything in it is counted here,
// by this gateway's own requests, but the utilisation, which the server tells.
type load struct {
	inFlight     atomic.Int64
	ejectedUntil atomic.Int64 // Unix nanoseconds

	// latency is the time to an answer's header in nanoseconds, as a mean that
	// follows what is slower at once and forgets it within latencyMemory; seen
	// is when it was last brought up to date, in Unix nanoseconds.
	latency atomic.Uint64 // a float64
	seen    atomic.Int64
	// busy is the utilisation that the server told last, toldAt when.
	busy   atomic.Uint64 // a float64, 0 to 1
	toldAt atomic.Int64
	// failures in a row, and answers since the last of them (or since the
	// server is known): few of these is probation.
	failures atomic.Int64
	answers  atomic.Int64
}

const (
	// latencyMemory is the time constant of the mean latency.
	latencyMemory = 10 * time.Second
	// busyMemory is how long what a server told of itself is worth something.
	busyMemory = 10 * time.Second
	// busyMost keeps a server that calls itself full from never being asked.
	busyMost = 0.95
	// probationAnswers end the probation of a server that is new or has failed:
	// until then it gets as many requests at once as it has answered, and one.
	probationAnswers = 16
)

// Blackout of a server, as in Ribbon's ServerStats: after so many failures in a
// row it is left out for a factor times a power of two of the further ones, and
// for no longer than the most. Ribbon's factor of 10 s and most of 30 s are two
// and six times the production timing's BreakerSleep.
const (
	blackoutFailures = 3
	blackoutFactor   = 2
	blackoutMost     = 6
	blackoutPower    = 16
)

// onProbation says that a server must not get more than it has now.
func (l *load) onProbation() bool {
	n := l.answers.Load()
	return n < probationAnswers && l.inFlight.Load() > n
}

// ejected says that a server is left out.
func (l *load) ejected(now time.Time) bool { return l.ejectedUntil.Load() > now.UnixNano() }

// cost is what a further request to the server is expected to take: its latency
// times the requests in line, over what is left of it. The server that nothing
// is known of yet costs what the other one does per request (peak EWMA; the
// share that is left is the waiting time of a queue at that utilisation).
func (l *load) cost(now time.Time, unknown float64) float64 {
	lat := l.latencyAt(now)
	if lat == 0 {
		lat = unknown
	}
	return lat * float64(l.inFlight.Load()+1) / (1 - l.busyAt(now))
}

// latencyAt is the mean latency, decayed by the time since it was heard of: a
// server that was slow is tried again some day. 0 is unknown.
func (l *load) latencyAt(now time.Time) float64 {
	lat := math.Float64frombits(l.latency.Load())
	if lat == 0 {
		return 0
	}
	return lat * decay(now.UnixNano()-l.seen.Load(), latencyMemory)
}

func (l *load) busyAt(now time.Time) float64 {
	if now.UnixNano()-l.toldAt.Load() > int64(busyMemory) {
		return 0
	}
	return math.Float64frombits(l.busy.Load())
}

func decay(age int64, memory time.Duration) float64 {
	if age <= 0 {
		return 1
	}
	return math.Exp(-float64(age) / float64(memory))
}

// took works a time to an answer in. Two at once may lose one of them: it is a
// mean.
func (l *load) took(d time.Duration, now time.Time) {
	x := float64(d)
	mean := math.Float64frombits(l.latency.Load())
	if x < mean {
		w := decay(now.UnixNano()-l.seen.Load(), latencyMemory)
		// Time alone does not forget under steady load: each answer weighs too.
		w = min(w, 1-latencyWeight)
		x = mean*w + x*(1-w)
	}
	l.latency.Store(math.Float64bits(x))
	l.seen.Store(now.UnixNano())
}

// latencyWeight is the least share that a faster answer has in the mean.
const latencyWeight = 0.1

// told takes what a server says of its utilisation.
func (l *load) told(u float64, now time.Time) {
	l.busy.Store(math.Float64bits(max(0, min(u, busyMost))))
	l.toldAt.Store(now.UnixNano())
}

// tried works the outcome of a try in. sleep is the timing's BreakerSleep.
func (l *load) tried(o outcome, took time.Duration, now time.Time, sleep time.Duration) {
	switch o {
	case answered:
		l.took(took, now)
		l.failures.Store(0)
		if l.answers.Load() < probationAnswers {
			l.answers.Add(1)
		}
	case faulty:
		// It answers, though not well: neither good nor gone.
		l.took(took, now)
	case gone:
	case refused, broken, late, overloaded:
		if o == late {
			l.took(took, now) // it is at least as slow as that
		}
		l.answers.Store(0)
		n := l.failures.Add(1)
		rest := time.Duration(0)
		switch {
		case n >= blackoutFailures:
			rest = min(blackoutMost*sleep, blackoutFactor*sleep<<min(n-blackoutFailures, blackoutPower))
		case o == refused:
			rest = sleep // nobody listens: that seldom ends at once
		}
		if rest > 0 {
			l.ejectedUntil.Store(now.Add(rest).UnixNano())
		}
	}
}
