package gateway

import (
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services/resilience/cost"
)

// load is what a gateway knows of a server. Everything in it is counted here,
// by this gateway's own requests, but the utilisation, which the server tells.
type load struct {
	cost.Cost
	ejectedUntil atomic.Int64 // Unix nanoseconds

	// failures in a row, and answers since the last of them (or since the
	// server is known): few of these is probation.
	failures atomic.Int64
	answers  atomic.Int64
}

// probationAnswers end the probation of a server that is new or has failed:
// until then it gets as many requests at once as it has answered, and one.
const probationAnswers = 16

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
	return n < probationAnswers && l.InFlight.Load() > n
}

// ejected says that a server is left out.
func (l *load) ejected(now time.Time) bool { return l.ejectedUntil.Load() > now.UnixNano() }

// tried works the outcome of a try in. sleep is the timing's BreakerSleep.
func (l *load) tried(o outcome, took time.Duration, now time.Time, sleep time.Duration) {
	switch o {
	case answered:
		l.Took(took, now)
		l.failures.Store(0)
		if l.answers.Load() < probationAnswers {
			l.answers.Add(1)
		}
	case faulty:
		// It answers, though not well: neither good nor gone.
		l.Took(took, now)
	case gone:
	case refused, broken, malformed, late, overloaded:
		if o == late {
			l.Took(took, now) // it is at least as slow as that
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
