package resilience_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/resilience"
	"github.com/flix-lab/flix/services/telemetry"
)

// dependency is a server behind real sockets that can be made to hang.
type dependency struct {
	*httptest.Server
	hang  atomic.Bool
	asked atomic.Int64
	// waiting are the calls that have not come back to their callers: the
	// server hears of one that was given up some time after.
	waiting atomic.Int64
	most    atomic.Int64
}

// enter counts a call in until leave is called.
func (d *dependency) enter() (leave func()) {
	n := d.waiting.Add(1)
	for m := d.most.Load(); n > m && !d.most.CompareAndSwap(m, n); m = d.most.Load() {
	}
	return func() { d.waiting.Add(-1) }
}

func newDependency(t testing.TB) *dependency {
	d := &dependency{}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.asked.Add(1)
		if d.hang.Load() {
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, "fresh")
	}))
	t.Cleanup(d.Close)
	return d
}

// page is what a caller of three dependencies answers: rows from each, and
// whether any is stale.
type page struct {
	rows  [3]string
	stale bool
}

// application calls three dependencies, each by a command that falls back to
// what it got last, and to a static row before that.
type application struct {
	g    *resilience.Group
	deps [3]*dependency
	cmds [3]*resilience.Command[string]
	last [3]atomic.Pointer[string]
	http *http.Client
}

const bulkhead = 8

func newApplication(t testing.TB) *application {
	a := &application{
		g:    resilience.NewGroup(telemetry.Discard(), resilience.Options{Timeout: time.Minute, MaxConcurrent: bulkhead, MaxFallbacks: 1000, BreakerSleep: time.Minute}),
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}},
	}
	t.Cleanup(a.http.CloseIdleConnections)
	for i := range a.deps {
		a.deps[i] = newDependency(t)
		a.cmds[i] = resilience.New[string](a.g, fmt.Sprintf("Get%d", i), resilience.Options{Group: fmt.Sprintf("dependency-%d", i)})
	}
	return a
}

func (a *application) call(ctx context.Context, i int) (row string, stale bool, err error) {
	row, err = a.cmds[i].DoFallback(ctx,
		func(ctx context.Context) (string, error) {
			defer a.deps[i].enter()()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.deps[i].URL, nil)
			if err != nil {
				return "", err
			}
			resp, err := a.http.Do(req)
			if err != nil {
				return "", services.Wrap("get", &services.Error{Kind: services.Unavailable, Err: err})
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err == nil {
				row := string(b)
				a.last[i].Store(&row)
			}
			return string(b), err
		},
		func(_ context.Context, cause error) (string, error) {
			kept := a.last[i].Load()
			if kept == nil {
				return "", cause
			}
			stale = true
			return *kept, nil
		},
		func(context.Context, error) (string, error) {
			stale = true
			return "static", nil
		})
	return row, stale, err
}

func (a *application) page(ctx context.Context) (p page, err error) {
	for i := range a.deps {
		row, stale, err := a.call(ctx, i)
		if err != nil {
			return p, err
		}
		p.rows[i], p.stale = row, p.stale || stale
	}
	return p, nil
}

func (a *application) state(t testing.TB, name string) resilience.State {
	t.Helper()
	for _, s := range a.g.Snapshot() {
		if s.Name == name {
			return s
		}
	}
	t.Fatal("no such command")
	return resilience.State{}
}

// One dependency hangs while many callers ask: every page comes, the rows of
// the hanging one are stale and say so, the other two are fresh and have
// refused nobody, and the hanging one has never had more calls than its
// bulkhead and is left alone once its breaker is open.
func TestOneSlowDependencyHarmsNoOtherCall(t *testing.T) {
	a := newApplication(t)
	if p, err := a.page(t.Context()); err != nil || p.stale || p.rows[1] != "fresh" {
		t.Fatalf("in health: %+v, %v", p, err)
	}
	// The one that hangs is given up soon; a busy machine must not be taken for
	// one that hangs.
	a.cmds[1] = resilience.New[string](a.g, "Get1Soon", resilience.Options{Timeout: 50 * time.Millisecond})
	a.deps[1].hang.Store(true)
	const callers, each = 6, 25
	var (
		wg          sync.WaitGroup
		stale, lost atomic.Int64
	)
	for range callers {
		wg.Go(func() {
			for range each {
				p, err := a.page(t.Context())
				if err != nil || p.rows != [3]string{"fresh", "fresh", "fresh"} {
					lost.Add(1)
					t.Errorf("%+v, %v", p, err)
				}
				if p.stale {
					stale.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if stale.Load() != callers*each || lost.Load() != 0 {
		t.Errorf("%d pages of %d say that they are stale", stale.Load(), callers*each)
	}
	slow := a.state(t, "Get1Soon")
	if slow.Breaker != "open" || slow.Events["timeout"] == 0 || slow.Events["short_circuited"] == 0 || slow.Events["fallback_success"] != callers*each {
		t.Errorf("the slow one: %+v", slow)
	}
	if n := a.deps[1].most.Load(); n > bulkhead {
		t.Errorf("%d calls at once reached the slow dependency, its bulkhead has %d", n, bulkhead)
	}
	if asked := a.deps[1].asked.Load(); asked > 1+int64(slow.Events["timeout"]) {
		t.Errorf("it was asked %d times beside an open breaker", asked)
	}
	for _, name := range []string{"Get0", "Get2"} {
		if s := a.state(t, name); s.Breaker != "closed" || s.Events["success"] != callers*each+1 || s.Events["fallback_success"] != 0 || s.Events["semaphore_rejected"] != 0 {
			t.Errorf("%+v", s)
		}
	}
}

// Without a copy the static row is what there is.
func TestStaticFallbackWithoutACopy(t *testing.T) {
	a := newApplication(t)
	a.deps[2].Close()
	if p, err := a.page(t.Context()); err != nil || !p.stale || p.rows != [3]string{"fresh", "fresh", "static"} {
		t.Errorf("%+v, %v", p, err)
	}
}

// The dependency is well again: a probe finds out, and pages are fresh.
func TestRecovery(t *testing.T) {
	a := newApplication(t)
	_, _ = a.page(t.Context())
	a.g = resilience.NewGroup(telemetry.Discard(), resilience.Options{Timeout: 30 * time.Millisecond, BreakerVolume: 4, BreakerSleep: 20 * time.Millisecond, Window: time.Minute})
	a.cmds[1] = resilience.New[string](a.g, "Get1", resilience.Options{})
	a.deps[1].hang.Store(true)
	for a.state(t, "Get1").Breaker != "open" {
		if p, err := a.page(t.Context()); err != nil || !p.stale {
			t.Fatalf("%+v, %v", p, err)
		}
	}
	a.deps[1].hang.Store(false)
	deadline := time.Now().Add(time.Minute)
	for {
		p, err := a.page(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !p.stale {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still stale: %+v", a.state(t, "Get1"))
		}
	}
	if s := a.state(t, "Get1"); s.Breaker != "closed" {
		t.Errorf("%+v", s)
	}
}

// BenchmarkNeighbour is the time of calls to a healthy dependency while others
// call one that hangs, beside the same while that one is well: p99-ratio is what
// the hanging one costs its neighbour.
func BenchmarkNeighbour(b *testing.B) {
	a := newApplication(b)
	a.cmds[1] = resilience.New[string](a.g, "Get1Soon", resilience.Options{Timeout: 50 * time.Millisecond})
	ctx, cancel := context.WithCancel(b.Context())
	var others sync.WaitGroup
	defer others.Wait()
	defer cancel()
	for range 4 {
		others.Go(func() {
			t := time.NewTicker(2 * time.Millisecond)
			defer t.Stop()
			for ctx.Err() == nil {
				_, _, _ = a.call(ctx, 1)
				<-t.C
			}
		})
	}
	measure := func() time.Duration {
		all := make([]time.Duration, 0, b.N)
		for range max(1000, b.N) {
			start := time.Now()
			if _, stale, err := a.call(b.Context(), 0); err != nil || stale {
				b.Fatal(stale, err)
			}
			all = append(all, time.Since(start))
		}
		slices.Sort(all)
		return all[len(all)*99/100]
	}
	measure() // connections
	healthy := measure()
	a.deps[1].hang.Store(true)
	hanging := measure()
	b.ReportMetric(float64(hanging)/float64(healthy), "p99-ratio")
	b.ReportMetric(float64(healthy.Nanoseconds()), "healthy-p99-ns")
	b.ReportMetric(float64(hanging.Nanoseconds()), "hanging-p99-ns")
}
