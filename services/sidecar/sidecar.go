// Package sidecar watches a store that knows nothing of the lab: one that runs
// in a container of its own, registers nowhere and has no admin endpoint. The
// unit beside it asks the store over the wire whether it serves, and tells
// whoever registers instances about every change.
//
// A Watch never restarts, repairs or configures a store, and it never says
// that one serves before it has answered.
package sidecar

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

const (
	defaultEvery   = time.Second
	defaultTimeout = 2 * time.Second
	// defaultSoon is the pause between probes of a store that does not serve:
	// one that starts is seen at once.
	defaultSoon = 50 * time.Millisecond
	// defaultFailures in a row make a store count as down. One is not enough: a
	// machine that is busy for a moment must not take a store out of the
	// registry.
	defaultFailures = 2
)

// Config is what a Watch needs.
type Config struct {
	// Store is its name for people, e.g. "kafka".
	Store string
	// Probe asks the store for something that only a store that serves can
	// answer. It must end with its context.
	Probe func(context.Context) error
	// Every is the pause between probes of a store that serves; 0 for 1 s.
	Every time.Duration
	// Timeout bounds one probe; 0 for 2 s.
	Timeout time.Duration
	// Changed is called with each change of health, one call at a time; may be
	// nil. The store counts as down before the first call. The Watch probes on
	// only after it has returned.
	Changed func(healthy bool)
	// Tel are the instance's instruments; the Watch registers store_up.
	Tel *telemetry.Telemetry
}

// Watch is the health of one store.
type Watch struct {
	cfg Config
	up  prometheus.Gauge

	mu      sync.Mutex
	healthy bool
	err     error         // of the last probe
	risen   chan struct{} // closed while healthy
}

// New makes a watch that has not probed yet.
func New(c Config) (*Watch, error) {
	if c.Probe == nil || c.Tel == nil || c.Store == "" {
		return nil, services.Errorf(services.Invalid, "sidecar.New: Store, Probe and Tel are required")
	}
	if c.Every <= 0 {
		c.Every = defaultEvery
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	w := &Watch{
		cfg: c, risen: make(chan struct{}),
		err: services.Errorf(services.Unavailable, "%s was not asked yet", c.Store),
		up:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "store_up", Help: "1 while the store beside this instance answers."}),
	}
	c.Tel.Metrics.MustRegister(w.up)
	return w, nil
}

// Healthy says whether the store serves, as of the last probe.
func (w *Watch) Healthy() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.healthy
}

// Err says why the store counts as down; nil while it serves.
func (w *Watch) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.healthy {
		return nil
	}
	return &services.Error{Op: w.cfg.Store, Kind: services.Unavailable, Msg: "the store does not answer", Err: w.err}
}

// Wait returns when the store serves, or fails with services.Unavailable and
// the last probe's error when ctx ends before.
func (w *Watch) Wait(ctx context.Context) error {
	for {
		w.mu.Lock()
		healthy, risen := w.healthy, w.risen
		w.mu.Unlock()
		if healthy {
			return nil
		}
		select {
		case <-risen:
		case <-ctx.Done():
			if err := w.Err(); err != nil {
				return err
			}
		}
	}
}

// Run probes until ctx ends. It is called once.
func (w *Watch) Run(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		err := w.probe(ctx)
		if ctx.Err() != nil {
			return // cut off by the end, which says nothing about the store
		}
		if failures++; err == nil {
			failures = 0
		}
		w.note(err, failures)
		if w.Healthy() && err == nil {
			t.Reset(w.cfg.Every)
		} else {
			t.Reset(min(defaultSoon, w.cfg.Every))
		}
	}
}

func (w *Watch) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	return w.cfg.Probe(ctx)
}

// note records a probe's result and tells about a change.
func (w *Watch) note(err error, failures int) {
	w.mu.Lock()
	was := w.healthy
	w.err = err
	switch {
	case err == nil && !was:
		w.healthy = true
		w.up.Set(1)
		close(w.risen)
	case failures >= defaultFailures && was:
		w.healthy = false
		w.up.Set(0)
		w.risen = make(chan struct{})
	}
	now := w.healthy
	w.mu.Unlock()
	if now == was {
		return
	}
	if now {
		w.cfg.Tel.Log.Info("store serves", "store", w.cfg.Store)
	} else {
		w.cfg.Tel.Log.Warn("store does not answer", "store", w.cfg.Store, "error", err)
	}
	if w.cfg.Changed != nil {
		w.cfg.Changed(now)
	}
}
