package resilience

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBroken = services.Errorf(services.Unavailable, "the dependency is broken")

func ok(context.Context) (string, error)     { return "ok", nil }
func broken(context.Context) (string, error) { return "", errBroken }

func state(t *testing.T, g *Group, name string) State {
	t.Helper()
	for _, s := range g.Snapshot() {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no command %q in the snapshot", name)
	return State{}
}

func TestAnswersAreNotFailures(t *testing.T) {
	kinds := []struct {
		kind   services.Kind
		answer bool
	}{
		{services.Invalid, true}, {services.NotFound, true}, {services.Denied, true}, {services.Conflict, true},
		{services.Unavailable, false}, {services.Exhausted, false}, {services.Internal, false},
	}
	for _, k := range kinds {
		t.Run(string(k.kind), func(t *testing.T) {
			g := NewGroup(telemetry.Discard(), Options{BreakerVolume: 2})
			cmd := New[string](g, "Get", Options{})
			fallbacks := 0
			for range 5 {
				_, err := cmd.DoFallback(t.Context(),
					func(context.Context) (string, error) { return "", services.Errorf(k.kind, "no") },
					func(context.Context, error) (string, error) { fallbacks++; return "second best", nil })
				if got := err != nil; got != k.answer {
					t.Fatalf("error %v, want one only for an answer", err)
				}
			}
			if s := state(t, g, "Get"); (s.Breaker == "closed") != k.answer || (fallbacks == 0) != k.answer {
				t.Errorf("breaker %s after %d fallbacks; an answer must leave it closed and never fall back", s.Breaker, fallbacks)
			}
		})
	}
}

func TestBreakerOpensProbesAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(telemetry.Discard(), Options{BreakerVolume: 4, BreakerSleep: time.Second})
		cmd := New[string](g, "Get", Options{})
		for range 4 {
			_, _ = cmd.Do(t.Context(), broken)
		}
		_, err := cmd.Do(t.Context(), ok)
		if services.ReasonOf(err) != ReasonBreakerOpen || services.KindOf(err) != services.Unavailable {
			t.Fatalf("open breaker answered %v", err)
		}

		time.Sleep(time.Second)
		// One probe runs and fails; a second call meanwhile is refused.
		inProbe, release := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _ = cmd.Do(t.Context(), func(context.Context) (string, error) {
				close(inProbe)
				<-release
				return "", errBroken
			})
		})
		<-inProbe
		if s := state(t, g, "Get"); s.Breaker != "half_open" || s.InFlight != 1 {
			t.Fatalf("during the probe: %+v", s)
		}
		if _, err := cmd.Do(t.Context(), ok); services.ReasonOf(err) != ReasonBreakerOpen {
			t.Fatalf("a second call beside the probe got %v", err)
		}
		close(release)
		wg.Wait()
		if s := state(t, g, "Get"); s.Breaker != "open" {
			t.Fatalf("after a failed probe the breaker is %s", s.Breaker)
		}

		time.Sleep(time.Second)
		if v, err := cmd.Do(t.Context(), ok); v != "ok" || err != nil {
			t.Fatalf("probe: %q, %v", v, err)
		}
		if s := state(t, g, "Get"); s.Breaker != "closed" {
			t.Fatalf("after a good probe the breaker is %s", s.Breaker)
		}
	})
}

func TestProbeThatPanicsOrIsAbandonedGivesItsPermitBack(t *testing.T) {
	probes := map[string]func(*Command[string]){
		"panic": func(cmd *Command[string]) {
			defer func() { _ = recover() }()
			_, _ = cmd.Do(context.Background(), func(context.Context) (string, error) { panic("bug") })
		},
		"abandoned": func(cmd *Command[string]) {
			ctx, cancel := context.WithCancel(context.Background())
			_, _ = cmd.Do(ctx, func(ctx context.Context) (string, error) { cancel(); return "", ctx.Err() })
		},
	}
	for name, probe := range probes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := NewGroup(telemetry.Discard(), Options{BreakerVolume: 1, BreakerSleep: time.Second, MaxConcurrent: 1})
				cmd := New[string](g, "Get", Options{})
				_, _ = cmd.Do(t.Context(), broken)
				time.Sleep(time.Second)
				probe(cmd)
				time.Sleep(time.Second)
				if _, err := cmd.Do(t.Context(), ok); err != nil {
					t.Fatalf("after the lost probe the breaker never closes: %v", err)
				}
			})
		})
	}
}

func TestCallerWhoLeavesIsNoFailure(t *testing.T) {
	g := NewGroup(telemetry.Discard(), Options{BreakerVolume: 1})
	cmd := New[string](g, "Get", Options{})
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := cmd.DoFallback(ctx,
			func(ctx context.Context) (string, error) { cancel(); return "", ctx.Err() },
			func(context.Context, error) (string, error) {
				t.Error("fallback for a caller who left")
				return "", nil
			})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
	}
	if s := state(t, g, "Get"); s.Breaker != "closed" || s.Events["failure"] != 0 {
		t.Errorf("%+v", s)
	}
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tel := telemetry.Discard()
		g := NewGroup(tel, Options{Timeout: time.Second})
		cmd := New[string](g, "Get", Options{})
		slow := func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }
		elapsed := func() time.Duration {
			start := time.Now()
			_, err := cmd.Do(t.Context(), slow)
			if services.KindOf(err) != services.Unavailable || services.ReasonOf(err) != ReasonTimeout || !strings.Contains(err.Error(), "timed out after") {
				t.Fatalf("got %v", err)
			}
			return time.Since(start)
		}
		if d := elapsed(); d != time.Second {
			t.Errorf("took %s", d)
		}
		tel.Properties.Set(map[string]string{"command.Get.timeout": "30ms"})
		if d := elapsed(); d != 30*time.Millisecond {
			t.Errorf("with the property: %s", d)
		}
		tel.Properties.Set(map[string]string{"command.Get.timeout": "soon"})
		if d := elapsed(); d != time.Second {
			t.Errorf("with a property that is no duration: %s, want the declared timeout", d)
		}
		if n := state(t, g, "Get").Events["timeout"]; n != 3 {
			t.Errorf("%d timeouts counted", n)
		}
	})
}

func TestBulkhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(telemetry.Discard(), Options{MaxConcurrent: 2})
		cmd := New[string](g, "Get", Options{})
		release := make(chan struct{})
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				_, _ = cmd.Do(t.Context(), func(context.Context) (string, error) { <-release; return "", nil })
			})
		}
		synctest.Wait()
		if _, err := cmd.Do(t.Context(), ok); services.KindOf(err) != services.Exhausted || services.ReasonOf(err) != ReasonBulkheadFull {
			t.Errorf("a third call got %v", err)
		}
		close(release)
		wg.Wait()
		if _, err := cmd.Do(t.Context(), ok); err != nil {
			t.Errorf("after both ended: %v", err)
		}
	})
}

func TestForceProperty(t *testing.T) {
	tel := telemetry.New(telemetry.Config{Properties: map[string]string{"command.Get.circuitBreaker.forceOpen": "true"}})
	g := NewGroup(tel, Options{BreakerVolume: 1})
	cmd := New[string](g, "Get", Options{})
	if _, err := cmd.Do(t.Context(), ok); services.ReasonOf(err) != ReasonBreakerOpen {
		t.Errorf("forced open: %v", err)
	}
	tel.Properties.Set(map[string]string{"command.Get.circuitBreaker.forceOpen": "", "hystrix.command.Get.circuitBreaker.forceClosed": "true"})
	for range 3 {
		if _, err := cmd.Do(t.Context(), broken); !errors.Is(err, errBroken) {
			t.Errorf("forced closed: %v", err)
		}
	}
	tel.Properties.Set(map[string]string{"hystrix.command.Get.circuitBreaker.forceClosed": ""})
	if _, err := cmd.Do(t.Context(), ok); err != nil {
		t.Errorf("not forced: %v; what failed while forced closed must not count", err)
	}
}

func TestFallback(t *testing.T) {
	g := NewGroup(telemetry.Discard(), Options{})
	cmd := New[string](g, "Get", Options{})
	v, err := cmd.DoFallback(t.Context(), broken, func(_ context.Context, cause error) (string, error) {
		return "stale", wantIs(cause, errBroken)
	})
	if v != "stale" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	errCache := services.Errorf(services.Internal, "no cache either")
	_, err = cmd.DoFallback(t.Context(), broken, func(context.Context, error) (string, error) { return "", errCache })
	if !errors.Is(err, errBroken) || !errors.Is(err, errCache) || services.KindOf(err) != services.Unavailable {
		t.Errorf("both failed: %v", err)
	}
	s := state(t, g, "Get")
	if s.Events["fallback_success"] != 1 || s.Events["fallback_failure"] != 1 || s.Events["failure"] != 2 {
		t.Errorf("%+v", s)
	}
}

func wantIs(err, target error) error {
	if errors.Is(err, target) {
		return nil
	}
	return fmt.Errorf("got %v, want %v", err, target)
}

func TestRetries(t *testing.T) {
	tests := []struct {
		name    string
		err     error
		retries int
		calls   int
	}{
		{"unavailable", errBroken, 2, 3},
		{"none", errBroken, 0, 1},
		{"negative", errBroken, -1, 1},
		{"answer", services.Errorf(services.NotFound, "no"), 2, 1},
		{"internal", services.Errorf(services.Internal, "bug"), 2, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd := New[string](NewGroup(telemetry.Discard(), Options{}), "Get", Options{Retries: tt.retries})
			calls := 0
			_, err := cmd.Do(t.Context(), func(context.Context) (string, error) { calls++; return "", tt.err })
			if calls != tt.calls || !errors.Is(err, tt.err) {
				t.Errorf("%d calls, want %d; error %v", calls, tt.calls, err)
			}
		})
	}
}

func TestMetricsAndSharedNames(t *testing.T) {
	tel := telemetry.Discard()
	g := NewGroup(tel, Options{})
	a, b := New[string](g, "Get", Options{}), New[int](g, "Get", Options{})
	_, _ = a.Do(t.Context(), ok)
	_, _ = b.Do(t.Context(), func(context.Context) (int, error) { return 1, nil })
	_, _ = a.Do(t.Context(), broken)
	families, err := tel.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{
		"success": 2, "failure": 1, "timeout": 0, "bad_request": 0, "short_circuited": 0, "thread_pool_rejected": 0, "semaphore_rejected": 0,
		"fallback_success": 0, "fallback_failure": 0, "fallback_rejection": 0, "fallback_disabled": 0, "fallback_missing": 1,
		"response_from_cache": 0, "cancelled": 0, "collapsed": 0, "retried": 0, "hedged": 0,
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch f.GetName() {
			case "resilience_command_total":
				for _, l := range m.GetLabel() {
					if l.GetName() == "event" {
						got[l.GetValue()] = m.GetCounter().GetValue()
					}
				}
			case "resilience_command_seconds":
				if n := m.GetHistogram().GetSampleCount(); n != 3 {
					t.Errorf("%d calls timed, want 3", n)
				}
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("resilience_command_total (-want +got):\n%s", diff)
	}
}

func BenchmarkDo(b *testing.B) {
	cmd := New[string](NewGroup(telemetry.Discard(), Options{Timeout: time.Second}), "Get", Options{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := cmd.Do(b.Context(), ok); err != nil {
			b.Fatal(err)
		}
	}
}
