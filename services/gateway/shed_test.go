package gateway

import (
	"math"
	"testing"

	"github.com/flix-lab/flix/services"
)

// TestCutOff holds the curve to the published points.
func TestCutOff(t *testing.T) {
	for over, want := range map[float64]float64{0: 100, 0.35: 95, 0.8: 50, 0.95: 10, 1: 0, -1: 100, 2: 0} {
		if got := CutOff(over); math.Abs(got-want) > 1e-6 {
			t.Errorf("at %v overload the cut-off is %v, want %v", over, got, want)
		}
	}
	if got := CutOff(math.NaN()); got != 100 {
		t.Errorf("NaN: %v", got)
	}
	last := 101.0
	for k := range 1001 {
		if c := CutOff(float64(k) / 1000); c > last {
			t.Fatalf("it grows at %v", float64(k)/1000)
		} else {
			last = c
		}
	}
}

func TestOverload(t *testing.T) {
	var s shedder
	for _, o := range s.options() {
		if err := o.Set(""); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		used, limit int64
		want        float64
	}{{0, 200, 0}, {150, 200, 0}, {175, 200, 0.5}, {200, 200, 1}, {400, 200, 1}, {5, 0, 0}} {
		if got := s.overload(tt.used, tt.limit); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("%d of %d: %v, want %v", tt.used, tt.limit, got, tt.want)
		}
	}
	for _, bad := range []string{"-1", "101", "x"} {
		for _, o := range s.options() {
			if err := o.Set(bad); (o.Name != "capacity" || bad != "101") && services.KindOf(err) != services.Invalid {
				t.Errorf("%s=%s: %v", o.Name, bad, err)
			}
		}
	}
}

func TestParseClass(t *testing.T) {
	for text, want := range map[string]Class{"": Critical, "critical": Critical, "degraded": Degraded, "non-critical": NonCritical, "non_critical": NonCritical} {
		if got, err := ParseClass(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	if _, err := ParseClass("vital"); services.KindOf(err) != services.Invalid {
		t.Errorf("%v", err)
	}
}

// TestLoadShedding is a drill: at each overload the classes lose what the curve
// says, the cheapest first.
func TestLoadShedding(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east", stubOrigin)
	const n = 1500 // so that a share is off by its bound hardly ever: six standard deviations
	for _, tt := range []struct {
		overload                        string
		critical, degraded, nonCritical float64 // share that gets through
	}{
		{"", 1, 1, 1}, {"0", 1, 1, 1}, {"35", 1, 1, 0.85}, {"80", 1, 0.5, 0}, {"95", 0.3, 0, 0}, {"100", 0, 0, 0},
	} {
		e.set(FilterProperty("load-shed", "overload"), tt.overload)
		for _, c := range []struct {
			path string
			hint string
			want float64
		}{{"/play/x", "", tt.critical}, {"/discovery/rows", "", tt.degraded}, {"/play/x", "u=4", tt.degraded}, {"/play/x", "u=7, i", tt.nonCritical}, {"/discovery/rows", "u=0", tt.degraded}} {
			ok := 0
			for range n {
				ex := e.request(c.path, "Priority", c.hint)
				e.chain.run(ex)
				switch {
				case ex.Err == nil:
					ok++
				case services.ReasonOf(ex.Err) != ReasonShed || ex.Response.Status != 503 || ex.Response.Header.Get("Retry-After") == "" || ex.Category != FailureLocalThrottledShed:
					t.Fatalf("%v, status %d, header %v", ex.Err, ex.Response.Status, ex.Response.Header)
				}
				ex.finish()
			}
			if got := float64(ok) / n; math.Abs(got-c.want) > 0.08 {
				t.Errorf("overload %q: %s with priority %q: %.2f get through, want %.2f", tt.overload, c.path, c.hint, got, c.want)
			}
		}
	}
	e.set(FilterProperty("load-shed", "overload"), "")
	if n := e.metric("gateway_shed_total", "class", "non-critical"); n < 1000 {
		t.Errorf("%v counted", n)
	}
	for _, r := range e.settings.routes.Load().Routes {
		if n := r.compiled.load.inFlight.Load(); n != 0 {
			t.Errorf("%d requests to %s are still counted", n, r.VIP)
		}
	}
}

// TestLoadOfAnAPISheds: an API whose limit is nearly used up keeps the rest for
// what matters.
func TestLoadOfAnAPISheds(t *testing.T) {
	e := newWorld(t).gateway("us-east", stubOrigin)
	load := e.settings.load("play")
	load.inFlight.Store(199) // of 200
	lost := 0
	for range 50 {
		ex := e.request("/play/x", "Priority", "u=7")
		e.chain.run(ex)
		if services.ReasonOf(ex.Err) == ReasonShed {
			lost++
		}
		ex.finish()
	}
	other := e.request("/signup/plans", "Priority", "u=7")
	e.chain.run(other)
	other.finish()
	if lost != 50 || other.Err != nil || load.inFlight.Load() != 199 {
		t.Errorf("%d of 50 background requests are shed; another API: %v; %d counted", lost, other.Err, load.inFlight.Load())
	}
}
