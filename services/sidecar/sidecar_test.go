package sidecar

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/telemetry/telemetrytest"
)

func TestWatchTellsOfChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		var changes []bool
		tel := telemetry.Discard()
		w, err := New(Config{
			Store: "store", Tel: tel, Changed: func(up bool) { changes = append(changes, up) },
			Probe: func(context.Context) error {
				if down.Load() {
					return errors.New("refused")
				}
				return nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		down.Store(true)
		ctx, cancel := context.WithCancel(t.Context())
		go w.Run(ctx)
		time.Sleep(500 * time.Millisecond)
		if w.Healthy() || len(changes) != 0 {
			t.Fatalf("healthy %v after changes %v, though it never answered", w.Healthy(), changes)
		}
		short, stop := context.WithTimeout(ctx, 10*time.Millisecond)
		defer stop()
		if err := w.Wait(short); services.KindOf(err) != services.Unavailable || !strings.Contains(err.Error(), "refused") {
			t.Errorf("Wait gave %v, want the probe's error", err)
		}
		down.Store(false)
		if err := w.Wait(ctx); err != nil || w.Err() != nil {
			t.Fatal(err, w.Err())
		}
		if up, _ := telemetrytest.Metric(t, tel.Metrics, "store_up", nil); up != 1 {
			t.Errorf("store_up = %v", up)
		}
		down.Store(true)
		// One probe fails: it may be a busy moment. The next one counts.
		time.Sleep(time.Second)
		if !w.Healthy() {
			t.Error("one failed probe made the store count as down")
		}
		time.Sleep(time.Second)
		if w.Healthy() {
			t.Error("the store counts as up, though it does not answer")
		}
		cancel()
		synctest.Wait()
		if len(changes) != 2 || !changes[0] || changes[1] {
			t.Errorf("changes %v, want up and down", changes)
		}
	})
}

// A probe that hangs is a failed one; the end of the watch does not wait for
// its timeout, and is no verdict about the store.
func TestHangingProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, err := New(Config{Store: "store", Tel: telemetry.Discard(), Timeout: time.Minute,
			Probe: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { w.Run(ctx); close(done) }()
		synctest.Wait()
		start := time.Now()
		cancel()
		<-done
		if d := time.Since(start); d != 0 {
			t.Errorf("the end took %s", d)
		}
	})
}

func TestNewRefusesBadConfig(t *testing.T) {
	if _, err := New(Config{}); services.KindOf(err) != services.Invalid {
		t.Errorf("got %v", err)
	}
}
