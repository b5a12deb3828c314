package resilience

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

func TestDefaultsAreHystrixs(t *testing.T) {
	g := NewGroup(telemetry.Discard(), Options{})
	New[string](g, "Get", Options{})
	want := map[string]string{
		"execution.isolation.thread.timeoutInMilliseconds": "1000", "execution.timeout.enabled": "true",
		"execution.isolation.semaphore.maxConcurrentRequests": "10", "fallback.isolation.semaphore.maxConcurrentRequests": "10",
		"fallback.enabled": "true", "circuitBreaker.enabled": "true", "circuitBreaker.requestVolumeThreshold": "20",
		"circuitBreaker.errorThresholdPercentage": "50", "circuitBreaker.sleepWindowInMilliseconds": "5000",
		"circuitBreaker.forceOpen": "false", "circuitBreaker.forceClosed": "false", "requestCache.enabled": "true",
	}
	s := state(t, g, "Get")
	for name, v := range want {
		if s.Properties[name] != v {
			t.Errorf("%s is %q, want %q", name, s.Properties[name], v)
		}
	}
	if s.WindowMS != 10_000 || len(g.circuit("Get", Options{}).window.buckets) != 10 {
		t.Errorf("window of %v ms", s.WindowMS)
	}
}

// The breaker opens at the twentieth call of a window of which half failed, be
// that one a success.
func TestBreakerCountsAsHystrixDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(telemetry.Discard(), Options{})
		cmd := New[string](g, "Get", Options{})
		for range 10 {
			_, _ = cmd.Do(t.Context(), broken)
		}
		for range 9 {
			_, _ = cmd.Do(t.Context(), ok)
		}
		if s := state(t, g, "Get"); s.Breaker != "closed" {
			t.Fatalf("after 19 calls the breaker is %s", s.Breaker)
		}
		_, _ = cmd.Do(t.Context(), ok)
		if s := state(t, g, "Get"); s.Breaker != "open" {
			t.Fatalf("after 20 calls, 10 failed, the breaker is %s", s.Breaker)
		}
		time.Sleep(5 * time.Second)
		if _, err := cmd.Do(t.Context(), ok); err != nil {
			t.Fatalf("probe: %v", err)
		}
		if s := state(t, g, "Get"); s.Breaker != "closed" || s.WindowFailures != 0 || s.Window["failure"] != 10 {
			t.Errorf("after the probe: %+v; closing forgives, the counts stay", s)
		}
	})
}

func TestFailuresOfAnEarlierWindowAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(telemetry.Discard(), Options{})
		cmd := New[string](g, "Get", Options{})
		for range 19 {
			_, _ = cmd.Do(t.Context(), broken)
		}
		time.Sleep(10*time.Second + time.Millisecond)
		for range 19 {
			_, _ = cmd.Do(t.Context(), broken)
		}
		if s := state(t, g, "Get"); s.Breaker != "closed" || s.WindowFailures != 19 {
			t.Errorf("%+v", s)
		}
	})
}

func TestSeveralProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(telemetry.Discard(), Options{BreakerVolume: 1, BreakerProbes: 3, BreakerSleep: time.Second})
		cmd := New[string](g, "Get", Options{})
		_, _ = cmd.Do(t.Context(), broken)
		time.Sleep(time.Second)
		var wg sync.WaitGroup
		release := make(chan struct{})
		var refused atomic.Int64
		for range 5 {
			wg.Go(func() {
				if _, err := cmd.Do(t.Context(), func(context.Context) (string, error) { <-release; return "", nil }); err != nil {
					refused.Add(1)
				}
			})
		}
		synctest.Wait()
		if s := state(t, g, "Get"); s.Breaker != "half_open" || s.InFlight != 3 || refused.Load() != 2 {
			t.Errorf("%d refused, %+v; want three probes of five calls", refused.Load(), s)
		}
		close(release)
		wg.Wait()
		if s := state(t, g, "Get"); s.Breaker != "closed" {
			t.Errorf("after three good probes: %s", s.Breaker)
		}
	})
}

// What was called before the breaker opened says nothing about after.
func TestLateAnswersDoNotDecideForTheProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(telemetry.Discard(), Options{BreakerVolume: 1, BreakerSleep: time.Second, Timeout: time.Minute})
		cmd := New[string](g, "Get", Options{})
		old, probe := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _ = cmd.Do(t.Context(), func(context.Context) (string, error) { <-old; return "", nil })
		})
		synctest.Wait()
		_, _ = cmd.Do(t.Context(), broken)
		time.Sleep(time.Second)
		wg.Go(func() {
			_, _ = cmd.Do(t.Context(), func(context.Context) (string, error) { <-probe; return "", errBroken })
		})
		synctest.Wait()
		close(old)
		synctest.Wait()
		if s := state(t, g, "Get"); s.Breaker != "half_open" {
			t.Errorf("an old answer made the breaker %s", s.Breaker)
		}
		close(probe)
		wg.Wait()
		if s := state(t, g, "Get"); s.Breaker != "open" {
			t.Errorf("after a failed probe: %s", s.Breaker)
		}
	})
}

func TestFallbackChain(t *testing.T) {
	g := NewGroup(telemetry.Discard(), Options{})
	cmd := New[string](g, "Get", Options{})
	noCopy := func(_ context.Context, cause error) (string, error) { return "", cause }
	static := func(context.Context, error) (string, error) { return "static", nil }
	if v, err := cmd.DoFallback(t.Context(), broken, noCopy, static); v != "static" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	if _, err := cmd.DoFallback(t.Context(), broken, noCopy, noCopy); !errors.Is(err, errBroken) || strings.Contains(err.Error(), "the fallback failed too") {
		t.Errorf("no copy anywhere: %v", err)
	}
	if v, err := cmd.DoFallback(t.Context(), ok, static); v != "ok" || err != nil {
		t.Errorf("a fallback for a success: %q, %v", v, err)
	}
	s := state(t, g, "Get")
	if s.Events["fallback_success"] != 1 || s.Events["fallback_failure"] != 1 {
		t.Errorf("%+v", s.Events)
	}
}

func TestFallbackGuards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tel := telemetry.Discard()
		g := NewGroup(tel, Options{MaxConcurrent: 10, MaxFallbacks: 1})
		cmd := New[string](g, "Get", Options{})
		release := make(chan struct{})
		slow := func(context.Context, error) (string, error) { <-release; return "stale", nil }
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = cmd.DoFallback(t.Context(), broken, slow) })
		synctest.Wait()
		_, err := cmd.DoFallback(t.Context(), broken, slow)
		if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "too many fallbacks") {
			t.Errorf("a second fallback: %v", err)
		}
		close(release)
		wg.Wait()
		tel.Properties.Set(map[string]string{"command.default.fallback.enabled": "false"})
		if _, err := cmd.DoFallback(t.Context(), broken, slow); !errors.Is(err, errBroken) {
			t.Errorf("with fallbacks off: %v", err)
		}
		s := state(t, g, "Get")
		if s.Events["fallback_rejection"] != 1 || s.Events["fallback_disabled"] != 1 || s.Events["fallback_success"] != 1 {
			t.Errorf("%+v", s.Events)
		}
	})
}

func TestProperties(t *testing.T) {
	tel := telemetry.New(telemetry.Config{Properties: map[string]string{
		"command.default.timeout":                                           "2s",
		"hystrix.command.Get.circuitBreaker.requestVolumeThreshold":         "7",
		"command.Get.max_concurrent":                                        "3",
		"command.GetMore.execution.isolation.thread.timeoutInMilliseconds":  "50",
		"command.Get.circuitBreaker.errorThresholdPercentage":               "101",
		"hystrix.command.default.circuitBreaker.sleepWindowInMilliseconds":  "250",
		"command.Get.limit.algorithm":                                       "vegas",
		"command.NotThere.execution.isolation.thread.timeoutInMilliseconds": "1",
	}})
	g := NewGroup(tel, Options{})
	New[string](g, "Get", Options{})
	New[string](g, "GetMore", Options{})
	want := func(name, property, value string) {
		t.Helper()
		if got := state(t, g, name).Properties[property]; got != value {
			t.Errorf("%s of %s is %q, want %q", property, name, got, value)
		}
	}
	const timeout = "execution.isolation.thread.timeoutInMilliseconds"
	want("Get", timeout, "2000")
	want("GetMore", timeout, "50")
	want("Get", "circuitBreaker.requestVolumeThreshold", "7")
	want("Get", "execution.isolation.semaphore.maxConcurrentRequests", "3")
	want("Get", "circuitBreaker.errorThresholdPercentage", "50")
	want("GetMore", "circuitBreaker.sleepWindowInMilliseconds", "250")
	if l := state(t, g, "Get").Limit; l == 0 {
		t.Error("no adaptive limit")
	}
	was := g.circuit("Get", Options{}).limiter.Load()
	tel.Properties.Set(map[string]string{"command.default.timeout": "", "command.GetMore.timeout": "70ms"})
	want("Get", timeout, "1000")
	want("GetMore", timeout, "50") // the whole name counts before the short one
	if g.circuit("Get", Options{}).limiter.Load() != was {
		t.Error("another property made the limit forget what it had learned")
	}
	New[string](g, "Unbounded", Options{Timeout: -1})
	want("Unbounded", "execution.timeout.enabled", "false")
	tel.Properties.Set(map[string]string{"command.Unbounded.timeout": "1s"})
	want("Unbounded", "execution.timeout.enabled", "true")
	for _, p := range Properties() {
		if err := p.Check("nonsense"); services.KindOf(err) != services.Invalid {
			t.Errorf("%s takes nonsense: %v", p.Name, err)
		}
		if q, err := FindProperty(p.Short); err != nil || q.Name != p.Name {
			t.Errorf("%s: %v, %v", p.Short, q.Name, err)
		}
	}
	if _, err := FindProperty("tmeout"); services.KindOf(err) != services.Invalid {
		t.Errorf("a property that is not there: %v", err)
	}
}

func TestAdaptiveLimitRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tel := telemetry.New(telemetry.Config{Properties: map[string]string{"command.Get.limit": "aimd", "command.Get.limit_initial": "1", "command.Get.limit_min": "1"}})
		g := NewGroup(tel, Options{})
		cmd := New[string](g, "Get", Options{})
		release := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _ = cmd.Do(t.Context(), func(context.Context) (string, error) { <-release; return "", nil })
		})
		synctest.Wait()
		if _, err := cmd.Do(t.Context(), ok); services.ReasonOf(err) != ReasonLimit || services.KindOf(err) != services.Exhausted {
			t.Errorf("a second call: %v", err)
		}
		close(release)
		wg.Wait()
		tel.Properties.Set(map[string]string{"command.Get.limit": "none"})
		if _, err := cmd.Do(t.Context(), ok); err != nil || state(t, g, "Get").Limit != 0 {
			t.Errorf("without the limit: %v", err)
		}
	})
}

func TestRetriesStayWithinTheirShare(t *testing.T) {
	g := NewGroup(telemetry.Discard(), Options{BreakerVolume: 1 << 20, Window: time.Hour, Timeout: time.Minute})
	cmd := New[string](g, "Get", Options{Retries: 1})
	calls := 0
	for range 200 {
		_, _ = cmd.Do(t.Context(), func(context.Context) (string, error) { calls++; return "", errBroken })
	}
	if extra := calls - 200; extra < retryFloor || extra > retryFloor+200/retryShare {
		t.Errorf("%d retries for 200 calls", extra)
	}
}

func TestApartLeavesAStuckFunctionBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(telemetry.Discard(), Options{Timeout: time.Second, PoolSize: 1, Group: "disk"})
		cmd := New[string](g, "Read", Options{})
		stuck := make(chan struct{})
		start := time.Now()
		v, err := cmd.DoApart(t.Context(),
			func(context.Context) (string, error) { <-stuck; return "late", nil },
			func(_ context.Context, cause error) (string, error) { return services.ReasonOf(cause), nil })
		if v != ReasonTimeout || err != nil || time.Since(start) != time.Second {
			t.Errorf("%q, %v after %s", v, err, time.Since(start))
		}
		if _, err := cmd.DoApart(t.Context(), ok); services.ReasonOf(err) != ReasonPoolFull {
			t.Errorf("with the pool's place still taken: %v", err)
		}
		close(stuck)
		g.Wait()
		if v, err := cmd.DoApart(t.Context(), ok); v != "ok" || err != nil {
			t.Errorf("after it ended: %q, %v", v, err)
		}
		s := state(t, g, "Read")
		if s.Events["timeout"] != 1 || s.Events["thread_pool_rejected"] != 1 || s.Events["success"] != 1 || s.WindowFailures != 2 {
			t.Errorf("%+v", s)
		}
	})
}

func TestApartPanicsInTheCaller(t *testing.T) {
	g := NewGroup(telemetry.Discard(), Options{})
	cmd := New[string](g, "Get", Options{})
	defer func() {
		if p := recover(); p == nil || !strings.Contains(p.(string), "bug") {
			t.Errorf("recovered %v", p)
		}
		if s := state(t, g, "Get"); s.InFlight != 0 || s.Events["failure"] != 1 {
			t.Errorf("%+v", s)
		}
	}()
	_, _ = cmd.DoApart(t.Context(), func(context.Context) (string, error) { panic("bug") })
}

func TestHedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(telemetry.Discard(), Options{})
		cmd := New[int64](g, "Get", Options{HedgeDelay: 50 * time.Millisecond})
		var calls, cut atomic.Int64
		slowFirst := func(ctx context.Context) (int64, error) {
			n := calls.Add(1)
			if n > 1 {
				return n, nil
			}
			select {
			case <-time.After(time.Second / 2):
				return n, nil
			case <-ctx.Done():
				cut.Add(1)
				return 0, ctx.Err()
			}
		}
		start := time.Now()
		v, err := cmd.DoHedged(t.Context(), slowFirst)
		if v != 2 || err != nil || time.Since(start) != 50*time.Millisecond || cut.Load() != 1 {
			t.Errorf("%d, %v after %s; %d cut off", v, err, time.Since(start), cut.Load())
		}
		// A fast answer needs no second call.
		if v, _ := cmd.DoHedged(t.Context(), slowFirst); v != 3 {
			t.Errorf("%d calls", v)
		}
		if s := state(t, g, "Get"); s.Events["hedged"] != 1 || s.Events["success"] != 2 {
			t.Errorf("%+v", s.Events)
		}
		// Failures of both are the call's failure; of the first alone, not.
		if _, err := cmd.DoHedged(t.Context(), func(context.Context) (int64, error) {
			time.Sleep(60 * time.Millisecond)
			return 0, errBroken
		}); !errors.Is(err, errBroken) {
			t.Errorf("both failed: %v", err)
		}
	})
}

func TestHedgesStayWithinTheirShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(telemetry.Discard(), Options{})
		cmd := New[int64](g, "Get", Options{HedgeDelay: time.Millisecond})
		var calls atomic.Int64
		for range 50 {
			_, _ = cmd.DoHedged(t.Context(), func(context.Context) (int64, error) {
				calls.Add(1)
				time.Sleep(10 * time.Millisecond)
				return 0, nil
			})
		}
		if extra := calls.Load() - 50; extra < hedgeFloor || extra > hedgeFloor+50/hedgeShare {
			t.Errorf("%d hedges for 50 slow calls", extra)
		}
	})
}

func TestSuccessAllocatesNothing(t *testing.T) {
	g := NewGroup(telemetry.New(telemetry.Config{Properties: map[string]string{"command.Get.limit": "gradient2"}}), Options{Timeout: time.Second})
	cmd := New[string](g, "Get", Options{})
	ctx, n := t.Context(), 0
	captures := func(ctx context.Context) (string, error) { n++; return "ok", ctx.Err() }
	stale := func(context.Context, error) (string, error) { return "stale", nil }
	// The first calls make the slots of the windows.
	for name, f := range map[string]func(){
		"Do":         func() { _, _ = cmd.Do(ctx, captures) },
		"DoFallback": func() { _, _ = cmd.DoFallback(ctx, captures, stale) },
		"closure":    func() { _, _ = cmd.Do(ctx, func(context.Context) (string, error) { n++; return "", nil }) },
	} {
		if got := testing.AllocsPerRun(2000, f); got != 0 {
			t.Errorf("%s: %v allocations a call", name, got)
		}
	}
}

// Whoever asks a command's context for its channel may go on holding it.
func TestContextThatIsHeldIsNotUsedAgain(t *testing.T) {
	g := NewGroup(telemetry.Discard(), Options{Timeout: time.Minute})
	cmd := New[context.Context](g, "Get", Options{})
	held, err := cmd.Do(t.Context(), func(ctx context.Context) (context.Context, error) {
		child, cancel := context.WithCancel(ctx)
		_ = cancel // the command's end ends it
		return child, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	<-held.Done()
	for range 10 {
		_, _ = cmd.Do(t.Context(), func(ctx context.Context) (context.Context, error) {
			if err := ctx.Err(); err != nil {
				t.Errorf("a fresh call's context has ended: %v", err)
			}
			return nil, nil
		})
	}
	if !errors.Is(held.Err(), context.Canceled) {
		t.Errorf("the held context says %v", held.Err())
	}
}

func TestContextKeepsWhatTheCallersCarries(t *testing.T) {
	type key struct{}
	g := NewGroup(telemetry.Discard(), Options{Timeout: time.Minute})
	cmd := New[string](g, "Get", Options{})
	parent, cancel := context.WithCancelCause(context.WithValue(t.Context(), key{}, "v"))
	gone := errors.New("gone")
	_, _ = cmd.Do(parent, func(ctx context.Context) (string, error) {
		if d, ok := ctx.Deadline(); !ok || time.Until(d) > time.Minute || time.Until(d) < time.Second {
			t.Errorf("deadline %v, %t", d, ok)
		}
		if ctx.Value(key{}) != "v" || ctx.Err() != nil {
			t.Error("value or state lost")
		}
		done := ctx.Done()
		if ctx.Value(key{}) != "v" {
			t.Error("value lost once the channel was asked for")
		}
		cancel(gone)
		<-done
		if !errors.Is(context.Cause(ctx), gone) {
			t.Errorf("cause %v", context.Cause(ctx))
		}
		return "", ctx.Err()
	})
}

func TestDistributionIsRightWithinAnEighth(t *testing.T) {
	for v := int64(0); v < 1<<20; v = v*9/8 + 1 {
		if low, high := bounds(division(v)); v < low || v >= high || float64(high-low) > max(1, float64(v)/7) {
			t.Fatalf("%d lies in [%d, %d)", v, low, high)
		}
	}
	if division(1<<40) != histogramLen-1 || division(-1) != 0 {
		t.Error("out of range")
	}
	d := newDistribution(time.Minute, 6)
	for v := range int64(10_000) {
		d.add(0, v)
	}
	s := d.spread(0)
	for _, p := range []float64{1, 25, 50, 90, 99, 99.5} {
		if got, want := float64(s.percentile(p)), p*100; got < want*0.95 || got > want*1.05 {
			t.Errorf("percentile %v is %v, want %v", p, got, want)
		}
	}
	if s.percentile(100) != 9999 || s.mean() != 4999 {
		t.Errorf("largest %d, mean %d", s.percentile(100), s.mean())
	}
}

func FuzzProperty(f *testing.F) {
	f.Add("timeout", "250ms")
	f.Add("circuitBreaker.errorThresholdPercentage", "101")
	f.Add("limit", "vegas")
	f.Add("force_open", "on")
	f.Fuzz(func(t *testing.T, name, value string) {
		p, err := FindProperty(name)
		if err != nil || value == "" || p.Check(value) != nil {
			return
		}
		var s settings
		if err := p.set(&s, value); err != nil {
			t.Fatalf("%s takes %q when checked and not when set: %v", name, value, err)
		}
		// What a setting prints it takes again, and it is the same.
		var again settings
		if err := p.set(&again, p.get(&s)); err != nil || again != s {
			t.Errorf("%s=%q prints %q, which is something else: %v", name, value, p.get(&s), err)
		}
	})
}
