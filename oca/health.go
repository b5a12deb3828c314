package oca

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// health is how the appliance feels: "" or why not well, and the load of its
// bottleneck. Safe for concurrent use.
type health struct {
	note chan struct{} // has a token when health changed

	mu       sync.Mutex
	why      string
	draining bool
	loadBits atomic.Uint64
}

func newHealth() *health { return &health{note: make(chan struct{}, 1)} }

// set changes the reason and tells of it.
func (h *health) set(why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.why == why {
		return
	}
	h.why = why
	h.tell()
}

func (h *health) tell() {
	select {
	case h.note <- struct{}{}:
	default:
	}
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
	return h.why
}

func (h *health) load() float64 { return math.Float64frombits(h.loadBits.Load()) }

// healthLoop looks at disk, connections and throughput twice per report.
func (s *Server) healthLoop(ctx context.Context) error {
	every := s.d.Timing.HealthReport.D() / 2
	last, lastSent := time.Now(), s.sent.Load()
	for sleep(ctx, untilBeat(time.Now(), every)) {
		now, sent := time.Now(), s.sent.Load()
		s.checkHealth(now.Sub(last), sent-lastSent)
		last, lastSent = now, sent
	}
	return nil
}

func (s *Server) checkHealth(took time.Duration, sent uint64) {
	connections, most := float64(s.client.count.Load()), float64(s.maxConnections.Load())
	load := connections / most
	if bw := float64(s.bandwidth.Load()); bw > 0 {
		load = max(load, float64(sent)*8/took.Seconds()/bw)
	}
	s.health.loadBits.Store(math.Float64bits(min(1, load)))
	switch err := s.store.writable(); {
	case err != nil:
		s.diskFailed(err)
	case connections >= most, connections >= recovered*most && s.health.reason() == reasonCrowded:
		s.health.set(reasonCrowded)
	default:
		s.health.set("")
	}
}

const (
	// reasonCrowded is why an appliance with too many connections is not well.
	reasonCrowded = "too many connections"
	// recovered is the share of the limit below which it is well again, so
	// that it does not flap at the limit.
	recovered = 0.9
)

// diskFailed makes the appliance unhealthy until the disk takes a write again.
func (s *Server) diskFailed(err error) {
	s.metrics.diskErrors.Inc()
	s.d.Tel.Log.Error("the disk failed", "error", err)
	s.health.set("disk: " + err.Error())
}

// Drain implements services.Drainer: cache control hears that the appliance is
// not to be used, and each answer tells its client to go (GOAWAY, or
// "Connection: close").
func (s *Server) Drain(ctx context.Context) error {
	s.health.drain()
	s.client.SetKeepAlivesEnabled(false)
	for s.inFlight.Load() > 0 {
		if !sleep(ctx, firstBackoff) {
			return ctx.Err()
		}
	}
	return nil
}
