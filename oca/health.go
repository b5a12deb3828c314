package oca

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// health is how the appliance feels: "" or why not well, whether its disk has
// room, and the load of its bottleneck. Safe for concurrent use.
type health struct {
	note chan struct{} // has a token when health changed

	mu       sync.Mutex
	why      string
	session  string // what is wrong with the router's session
	full     string // why the disk takes no byte more, which does not keep it from serving
	draining bool
	shed     []string // titles that viewers should get elsewhere
	loadBits atomic.Uint64
}

func newHealth() *health { return &health{note: make(chan struct{}, 1)} }

// set changes the reason and tells of it; setSession does so for what is wrong
// with the router's session, setFull for the disk that is full.
func (h *health) set(why string)        { h.change(&h.why, why) }
func (h *health) setSession(why string) { h.change(&h.session, why) }
func (h *health) setFull(why string)    { h.change(&h.full, why) }

func (h *health) change(what *string, why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if *what == why {
		return
	}
	*what = why
	h.tell()
}

func (h *health) tell() {
	select {
	case h.note <- struct{}{}:
	default:
	}
}

// setShed changes the titles shed and tells of it.
func (h *health) setShed(titles []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.Equal(h.shed, titles) {
		return
	}
	h.shed = slices.Clone(titles)
	h.tell()
}

func (h *health) shedding() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.shed
}

func (h *health) drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.draining = true
	h.tell()
}

func (h *health) reason() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining {
		return "draining"
	}
	return cmp.Or(h.why, h.session)
}

// noRoom is why the disk takes no byte more; "" if it does.
func (h *health) noRoom() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.full
}

// unrouted says whether nothing is wrong but the router's session, without which no
// viewer is sent here.
func (h *health) unrouted() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.draining && h.why == "" && h.session != ""
}

func (h *health) load() float64 { return math.Float64frombits(h.loadBits.Load()) }

// healthLoop looks at disk, connections and throughput twice per report.
func (s *Server) healthLoop(ctx context.Context) error {
	every := s.d.Timing.HealthReport.D() / 2
	last, lastSent := time.Now(), s.sent.Load()
	for sleep(ctx, untilBeat(time.Now(), every)) {
		now, sent := time.Now(), s.sent.Load()
		s.checkHealth(sample{took: now.Sub(last), sent: sent - lastSent, connections: s.connections(), titles: s.traffic.take()})
		last, lastSent = now, sent
	}
	return nil
}

// sample is what the health loop looks at.
type sample struct {
	took        time.Duration
	sent        uint64 // bytes in that time
	connections int64
	titles      map[string]int64 // bytes by title
}

func (s *Server) checkHealth(m sample) {
	connections, most := float64(m.connections), float64(s.maxConnections.Load())
	load := connections / most
	if bw := float64(s.bandwidth.Load()); bw > 0 {
		load = max(load, float64(m.sent)*8/m.took.Seconds()/bw)
	}
	start := time.Now()
	err := s.store.writable()
	// A disk that takes a whole look for a write is as busy as it can be.
	load = max(load, time.Since(start).Seconds()/m.took.Seconds())
	load = min(1, load)
	s.health.loadBits.Store(math.Float64bits(load))
	s.governor.look(load, m.titles)
	s.health.setShed(s.governor.shed)
	if err != nil {
		s.diskFailed(err)
	} else {
		s.health.setFull("")
	}
	switch why := s.health.reason(); {
	case err != nil && !isFull(err):
	case connections >= most, connections >= recovered*most && why == reasonCrowded:
		s.health.set(reasonCrowded)
	case s.governor.overloaded:
		s.health.set(reasonOverloaded)
	default:
		s.health.set("")
	}
}

const (
	// reasonCrowded is why an appliance with too many connections is not well,
	// reasonOverloaded one whose bottleneck is full though it sheds all it can.
	reasonCrowded    = "too many connections"
	reasonOverloaded = "overloaded"
	// recovered is the share of the limit below which it is well again, so
	// that it does not flap at the limit.
	recovered = 0.9
)

// isFull says whether a disk refused a write for want of room alone.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// diskFailed makes the appliance unhealthy until the disk takes a write again. A
// disk that is merely full still gives what it holds: no more is filled meanwhile.
func (s *Server) diskFailed(err error) {
	s.metrics.diskErrors.Inc()
	s.d.Tel.Log.Error("the disk failed", "error", err)
	why := "disk: " + err.Error()
	if isFull(err) {
		s.health.setFull(why)
		return
	}
	s.health.set(why)
}

// Drain implements services.Drainer: cache control hears that the appliance is
// not to be used, and each answer tells its client to go (GOAWAY, or
// "Connection: close").
func (s *Server) Drain(ctx context.Context) error {
	s.health.drain()
	s.client.Drain()
	if s.plain != nil {
		s.plain.Drain()
	}
	for s.inFlight.Load() > 0 {
		if !sleep(ctx, firstBackoff) {
			return ctx.Err()
		}
	}
	return nil
}
