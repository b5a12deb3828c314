// Package cost estimates what a further request to a server would take, for
// clients that choose the cheaper one of two servers at random.
//
// It goes by what the client itself has seen (requests under way, the time of
// answers) and by the utilisation that the server tells. It never does I/O, sets
// no timer and takes no lock: it is asked for every request.
package cost

import (
	"cmp"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

const (
	// Memory is the time constant of the mean latency, and how long what a
	// server told of itself is worth something.
	Memory = 10 * time.Second
	// busyMost keeps a server that calls itself full from never being asked.
	busyMost = 0.95
	// latencyWeight is the least share that a faster answer has in the mean:
	// time alone does not forget under steady load.
	latencyWeight = 0.1
)

// Cost is what a client knows of one server. The zero value knows nothing. It is
// safe for concurrent use.
type Cost struct {
	// InFlight counts the requests under way.
	InFlight atomic.Int64
	// latency is the time to an answer in nanoseconds, as a mean that follows
	// what is slower at once and forgets it within Memory; seen is when it was
	// last brought up to date, in Unix nanoseconds.
	latency atomic.Uint64 // a float64
	seen    atomic.Int64
	// busy is the utilisation that the server told last, toldAt when.
	busy   atomic.Uint64 // a float64, 0 to 1
	toldAt atomic.Int64
}

// Of is what a further request to the server is expected to take: its latency
// times the requests in line, over what is left of it. The server that nothing
// is known of yet takes unknown per request (peak EWMA; the share that is left
// is the waiting time of a queue at that utilisation).
func (c *Cost) Of(now time.Time, unknown float64) float64 {
	lat := c.Latency(now)
	if lat == 0 {
		lat = unknown
	}
	return lat * float64(c.InFlight.Load()+1) / (1 - c.Busy(now))
}

// Cheaper says whether a further request is to go to a rather than to b; where
// both cost the same, chance decides. What is not known of one is taken from the
// other.
func Cheaper(a, b *Cost, now time.Time) bool {
	ca := a.Of(now, cmp.Or(b.Latency(now), 1))
	cb := b.Of(now, cmp.Or(a.Latency(now), 1))
	return ca < cb || ca == cb && rand.IntN(2) == 0
}

// Latency is the mean latency in nanoseconds, decayed by the time since it was
// heard of: a server that was slow is tried again some day. 0 is unknown.
func (c *Cost) Latency(now time.Time) float64 {
	lat := math.Float64frombits(c.latency.Load())
	if lat == 0 {
		return 0
	}
	return lat * decay(now.UnixNano()-c.seen.Load())
}

// Busy is the utilisation that the server told lately; 0 if it did not.
func (c *Cost) Busy(now time.Time) float64 {
	if now.UnixNano()-c.toldAt.Load() > int64(Memory) {
		return 0
	}
	return math.Float64frombits(c.busy.Load())
}

// Quiet says that nothing is under way and nothing was heard for long.
func (c *Cost) Quiet(now time.Time) bool {
	return c.InFlight.Load() == 0 && now.UnixNano()-c.seen.Load() > int64(Memory)
}

func decay(age int64) float64 {
	if age <= 0 {
		return 1
	}
	return math.Exp(-float64(age) / float64(Memory))
}

// Took works a time to an answer in. Two at once may lose one of them: it is a
// mean.
func (c *Cost) Took(d time.Duration, now time.Time) {
	x := float64(d)
	mean := math.Float64frombits(c.latency.Load())
	if x < mean {
		w := min(decay(now.UnixNano()-c.seen.Load()), 1-latencyWeight)
		x = mean*w + x*(1-w)
	}
	c.latency.Store(math.Float64bits(x))
	c.seen.Store(now.UnixNano())
}

// Told takes what a server says of its utilisation, 0 to 1 and more when it is
// overloaded.
func (c *Cost) Told(u float64, now time.Time) {
	c.busy.Store(math.Float64bits(max(0, min(u, busyMost))))
	c.toldAt.Store(now.UnixNano())
}
