package registry

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

// Limits throttle fetches, and nothing else: a heartbeat that is refused costs
// a lease. Zero or less is no limit.
type Limits struct {
	// Fetches and FullFetches are the average rates of all fetches and of full
	// ones among them, per second.
	Fetches, FullFetches float64
	// Burst is how many may come at once; at least one.
	Burst int
	// Everybody throttles the clients that say they are the originals' own
	// too, which are let through otherwise.
	Everybody bool
}

// headerIdentity names the kind of client.
const headerIdentity = "DiscoveryIdentity-Name"

// limiter is two token buckets.
type limiter struct {
	limits Limits
	clock  func() time.Time

	mu        sync.Mutex
	all, full bucket
}

func newLimiter(l Limits, clock func() time.Time) *limiter {
	l.Burst = max(1, l.Burst)
	return &limiter{limits: l, clock: clock}
}

// bucket holds tokens that come back at a rate.
type bucket struct {
	spent float64
	at    time.Time
}

// refill gives back what has come in since.
func (b *bucket) refill(rate float64, now time.Time) {
	if d := now.Sub(b.at).Seconds(); d > 0 {
		b.spent = max(0, b.spent-d*rate)
		b.at = now
	}
}

// allow takes a token of each bucket that applies, or none.
func (l *limiter) allow(r *http.Request, full bool) bool {
	if l.limits.Fetches <= 0 && l.limits.FullFetches <= 0 {
		return true
	}
	if name := r.Header.Get(headerIdentity); !l.limits.Everybody && (name == "DefaultClient" || name == "DefaultServer") {
		return true
	}
	now := l.clock()
	burst := float64(l.limits.Burst)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all.refill(l.limits.Fetches, now)
	l.full.refill(l.limits.FullFetches, now)
	limitAll, limitFull := l.limits.Fetches > 0, full && l.limits.FullFetches > 0
	if limitAll && l.all.spent+1 > burst || limitFull && l.full.spent+1 > burst {
		return false
	}
	if limitAll {
		l.all.spent++
	}
	if limitFull {
		l.full.spent++
	}
	return true
}

// throttle answers a fetch above the limit and says whether it did.
func (s *Server) throttle(w http.ResponseWriter, r *http.Request, full bool) bool {
	if s.limiter.allow(r, full) {
		return false
	}
	s.metrics.throttled.Inc()
	w.Header().Set("Retry-After", strconv.Itoa(1))
	telemetry.WriteJSON(w, http.StatusServiceUnavailable, services.ProblemOf(services.Errorf(services.Unavailable, "registry: fetches are above the limit of %g (full ones %g) a second", s.limiter.limits.Fetches, s.limiter.limits.FullFetches)))
	return true
}
