package gateway

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services/resilience/cost"
	"github.com/flix-lab/flix/topology"
)

// seasoned is the load of a server that is long known.
func seasoned(inFlight int64, latency time.Duration, now time.Time) *load {
	l := new(load)
	l.InFlight.Store(inFlight)
	l.answers.Store(probationAnswers)
	if latency > 0 {
		l.Took(latency, now)
	}
	return l
}

func TestPickByCost(t *testing.T) {
	now := time.Unix(1000, 0)
	tests := []struct {
		name string
		a, b func() *load
		want string
	}{
		{"the faster one", func() *load { return seasoned(0, 50*time.Millisecond, now) }, func() *load { return seasoned(0, 5*time.Millisecond, now) }, "b"},
		{"the slower one once the faster has a line", func() *load { return seasoned(0, 50*time.Millisecond, now) }, func() *load { return seasoned(30, 5*time.Millisecond, now) }, "a"},
		{"the one that says it has room", func() *load {
			l := seasoned(2, 5*time.Millisecond, now)
			l.Told(0.9, now)
			return l
		}, func() *load {
			l := seasoned(2, 5*time.Millisecond, now)
			l.Told(0.1, now)
			return l
		}, "b"},
		{"what it said long ago is nothing", func() *load {
			l := seasoned(1, 5*time.Millisecond, now)
			l.Told(0.9, now.Add(-cost.Memory-time.Second))
			return l
		}, func() *load { return seasoned(2, 5*time.Millisecond, now) }, "a"},
		{"an unknown latency is the other's", func() *load { return seasoned(1, 0, now) }, func() *load { return seasoned(0, time.Second, now) }, "b"},
		{"a slow one is forgotten in time", func() *load {
			return seasoned(0, time.Second, now.Add(-20*cost.Memory))
		}, func() *load { return seasoned(0, 5*time.Millisecond, now) }, "a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for range 10 {
				got, _ := pick([]server{{addr: "a", load: tt.a()}, {addr: "b", load: tt.b()}}, nil, now)
				if got.addr != tt.want {
					t.Fatalf("picked %q, want %q", got.addr, tt.want)
				}
			}
		})
	}
}

func TestProbation(t *testing.T) {
	now := time.Unix(1000, 0)
	old, fresh := seasoned(5, time.Millisecond, now), new(load)
	servers := []server{{addr: "old", load: old}, {addr: "new", load: fresh}}
	if got, _ := pick(servers, nil, now); got.addr != "new" {
		t.Errorf("an idle new server is not tried: %q", got.addr)
	}
	fresh.InFlight.Store(1)
	if got, _ := pick(servers, nil, now); got.addr != "old" {
		t.Errorf("a new server that has answered nothing gets a second request")
	}
	for range probationAnswers {
		fresh.tried(answered, time.Millisecond, now, time.Second)
	}
	if got, _ := pick(servers, nil, now); got.addr != "new" {
		t.Errorf("after %d answers it is still on probation", probationAnswers)
	}
	fresh.tried(broken, 0, now, time.Second)
	if got, _ := pick(servers, nil, now); got.addr != "old" {
		t.Errorf("a failure does not bring probation back")
	}
}

// The times are Ribbon's: none before the third failure in a row, then ten
// seconds, twenty, thirty and no more.
func TestBlackout(t *testing.T) {
	sleep := topology.ProductionTiming().BreakerSleep.D()
	now := time.Unix(1000, 0)
	l := seasoned(0, 0, now)
	for n, want := range []time.Duration{0, 0, 10 * time.Second, 20 * time.Second, 30 * time.Second, 30 * time.Second} {
		l.ejectedUntil.Store(0)
		l.tried(broken, 0, now, sleep)
		got := time.Duration(max(0, l.ejectedUntil.Load()-now.UnixNano()))
		if l.ejectedUntil.Load() == 0 {
			got = 0
		}
		if got != want {
			t.Errorf("after failure %d it is out for %s, want %s", n+1, got, want)
		}
	}
	for range 100 {
		l.tried(broken, 0, now, sleep)
	}
	if got := time.Duration(l.ejectedUntil.Load() - now.UnixNano()); got != 30*time.Second {
		t.Errorf("after a hundred: %s", got)
	}
	l.tried(answered, time.Millisecond, now, sleep)
	l.ejectedUntil.Store(0)
	l.tried(broken, 0, now, sleep)
	if l.ejected(now) {
		t.Error("an answer in between does not count")
	}
}

func TestZoneAffinity(t *testing.T) {
	now := time.Unix(1000, 0)
	mk := func(rank int, inFlight int64, out bool) server {
		l := seasoned(inFlight, 0, now)
		if out {
			l.ejectedUntil.Store(now.Add(time.Second).UnixNano())
		}
		return server{rank: rank, load: l}
	}
	tests := []struct {
		name    string
		servers []server
		want    bool
	}{
		{"idle", []server{mk(0, 0, false), mk(1, 0, false)}, true},
		{"busy within its part", []server{mk(0, 59, false), mk(1, 0, false)}, true},
		{"busy beyond 0.6 of its part", []server{mk(0, 60, false), mk(1, 0, false)}, false},
		{"two of three out", []server{mk(0, 0, true), mk(0, 0, true), mk(0, 0, false), mk(1, 0, false)}, true},
		{"all but none of five out", []server{mk(0, 0, true), mk(0, 0, true), mk(0, 0, true), mk(0, 0, true), mk(0, 0, false), mk(1, 0, false)}, false},
		{"nothing in the own zone", []server{mk(1, 0, false)}, true},
		{"nothing elsewhere", []server{mk(0, 500, false)}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := affinity(tt.servers, now, 200); got != tt.want {
				t.Errorf("affinity %t", got)
			}
		})
	}
}

func TestRetryBudget(t *testing.T) {
	var b budget
	now := time.Unix(1000, 0)
	took := func(n int) (got int) {
		for range n {
			if b.take(now) {
				got++
			}
		}
		return got
	}
	if n := took(100); n != 10 {
		t.Errorf("%d retries without a request, want 10", n)
	}
	for range 50 {
		b.earn()
	}
	if n := took(100); n != 10 {
		t.Errorf("%d retries for 50 requests, want a fifth", n)
	}
	now = now.Add(3500 * time.Millisecond)
	if n := took(100); n != 3 {
		t.Errorf("%d retries after 3.5 s, want one a second", n)
	}
	for range 100_000 {
		b.earn()
	}
	if n := took(1000); n != 100 {
		t.Errorf("%d retries saved up, want at most 100", n)
	}
	if b.withheld.Load() != 90+90+97+900 {
		t.Errorf("%d withheld", b.withheld.Load())
	}
}

func TestUtilisation(t *testing.T) {
	tests := map[string]float64{
		"TEXT cpu_utilization=0.3, mem_utilization=0.8":                 0.3,
		"TEXT mem_utilization=0.8,application_utilization=1.5, qps=100": 1.5,
		"TEXT application_utilization=0":                                0,
	}
	for header, want := range tests {
		if got, ok := utilisation(header); !ok || got != want {
			t.Errorf("%q: %v, %t; want %v", header, got, ok, want)
		}
	}
	for _, header := range []string{"", "TEXT", "TEXTcpu_utilization=1", "TEXT cpu_utilization=NaN", "TEXT cpu_utilization=-1", "TEXT cpu_utilization", "JSON {}", "BIN AAAA", "TEXT " + strings.Repeat("x", maxLoadHeader)} {
		if got, ok := utilisation(header); ok {
			t.Errorf("%q: %v", header, got)
		}
	}
}

func FuzzUtilisation(f *testing.F) {
	f.Add("TEXT cpu_utilization=0.3, mem_utilization=0.8")
	f.Add("TEXT application_utilization=1e3,=,")
	f.Fuzz(func(t *testing.T, header string) {
		if u, ok := utilisation(header); ok && !(u >= 0 && u <= 1e6) {
			t.Errorf("%q is %v", header, u)
		}
	})
}

func TestViewIsMadeAnewWhenTheRegistryChanges(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	e.registry.add("signup", "one", "a", "127.0.0.1:1")
	first := e.view("signup")
	if e.view("signup") != first {
		t.Error("the same answer of the registry makes another view")
	}
	e.registry.add("signup", "two", "b", "127.0.0.1:2")
	ids := func() (out []string) {
		for _, s := range e.instances(&Exchange{Route: &Route{VIP: "signup"}, Received: time.Now()}, nil) {
			out = append(out, fmt.Sprintf("%s/%d", s.id, s.rank))
		}
		return out
	}
	if got := ids(); !slices.Equal(got, []string{"one/0", "two/1"}) {
		t.Errorf("%v", got)
	}
}

func TestPickingAllocatesNothing(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	for i := range 6 {
		e.registry.add("signup", fmt.Sprint(i), []string{"a", "b"}[i%2], fmt.Sprintf("127.0.0.1:%d", i+1))
	}
	var room [8]server
	ex := &Exchange{Route: &Route{VIP: "signup"}, Received: time.Now()}
	if n := testing.AllocsPerRun(1000, func() {
		s, _ := pick(e.instances(ex, room[:0]), nil, ex.now())
		s.load.tried(answered, time.Millisecond, ex.now(), time.Second)
		e.guards.of("signup").budget.earn()
	}); n != 0 {
		t.Errorf("%v allocations a pick", n)
	}
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{2, 8, 100} {
		b.Run(fmt.Sprintf("servers=%d", n), func(b *testing.B) {
			e := newWorld(b).gateway("us-east")
			for i := range n {
				e.registry.add("signup", fmt.Sprint(i), []string{"a", "b"}[i%2], fmt.Sprintf("127.0.0.1:%d", i+1))
			}
			for _, s := range e.view("signup").servers {
				s.load.answers.Store(probationAnswers)
			}
			room := make([]server, 0, n)
			b.ReportAllocs()
			ex := &Exchange{Route: &Route{VIP: "signup"}}
			for b.Loop() {
				ex.Received = time.Now()
				s, _ := pick(e.instances(ex, room[:0]), nil, ex.Received)
				s.load.tried(answered, time.Millisecond, ex.Received, time.Second)
			}
		})
	}
}
