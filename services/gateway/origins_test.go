package gateway

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flix-lab/flix/services/addresstest"
	"github.com/flix-lab/flix/services/lookup"
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

// counting is an API that counts its requests and does to each what do says.
func (e *edge) counting(zone, id string, do http.HandlerFunc) *atomic.Int64 {
	hits := new(atomic.Int64)
	e.apiIn(zone, "signup", id, func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		do(w, r)
	})
	return hits
}

func fine(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }

// get asks n times, so many at once, and returns how often each status came.
func (e *edge) get(t *testing.T, n, atOnce int) map[int]int {
	t.Helper()
	c := e.client(eastClient, true)
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		next atomic.Int64
		got  = map[int]int{}
	)
	for range atOnce {
		wg.Go(func() {
			for next.Add(1) <= int64(n) {
				resp, err := c.Get("https://" + edgeHost + "/signup/plans")
				status := 0
				if err == nil {
					status = resp.StatusCode
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				mu.Lock()
				got[status]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return got
}

func TestSlowServerGetsLess(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	slow := e.counting("a", "us-east/a/signup/slow", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(2 * time.Second): // longer than a busy machine makes the other one take
		case <-r.Context().Done():
		}
		fine(w, r)
	})
	fast := e.counting("a", "us-east/a/signup/fast", fine)
	if got := e.get(t, 400, 4); got[200] != 400 {
		t.Fatalf("%v", got)
	}
	if slow.Load()*4 > fast.Load() {
		t.Errorf("the slow server got %d requests, the fast one %d", slow.Load(), fast.Load())
	}
}

func TestServerThatSaysItIsBusyGetsLess(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	says := func(load string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(LoadHeader, load)
			fine(w, r)
		}
	}
	e.counting("a", "us-east/a/signup/busy", says("TEXT application_utilization=0.95"))
	e.counting("a", "us-east/a/signup/idle", says("TEXT application_utilization=0.05"))
	if a := ask(t, e.client(eastClient, true), "GET", "/signup/plans", ""); a.Header.Get(LoadHeader) != "" {
		t.Errorf("a client is told the load: %q", a.Header.Get(LoadHeader))
	}
	// What a server said is forgotten when it is not asked for long.
	eventually(t, "both are known by what they say", func() bool {
		e.get(t, 50, 2)
		for _, s := range e.Origins()[0].Servers {
			want := 0.05
			if s.ID == "us-east/a/signup/busy" {
				want = 0.95
			}
			if s.Utilisation != want {
				return false
			}
		}
		return true
	})
}

// Each way to fail: nobody but the failing server notices, and after three
// failures in a row it is left out.
func TestFailingServersAreLeftOut(t *testing.T) {
	ways := map[string]http.HandlerFunc{
		"resetting": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"503ing":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"hanging":   func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	}
	for name, do := range ways {
		t.Run(name, func(t *testing.T) {
			e := newWorld(t).gateway("us-east", func(d *Deps) { d.Timing.BreakerSleep *= 60 })
			if name == "hanging" {
				e.set(PropertyTimeout, shortTry)
			}
			bad := e.counting("a", "us-east/a/signup/bad", do)
			e.counting("b", "us-east/b/signup/good", fine) // asked after the own zone's
			c := e.client(eastClient, true)
			for range 20 {
				if a := ask(t, c, "GET", "/signup/plans", ""); a.StatusCode != 200 {
					t.Fatalf("status %d: %s", a.StatusCode, a.body)
				}
			}
			if bad.Load() != blackoutFailures {
				t.Errorf("the bad server was asked %d times, want %d", bad.Load(), blackoutFailures)
			}
			if n := e.metric("gateway_server_out", "server", "us-east/a/signup/bad"); n != 1 {
				t.Errorf("gateway_server_out is %v", n)
			}
		})
	}
}

func TestKilledServer(t *testing.T) {
	e := newWorld(t).gateway("us-east", func(d *Deps) { d.Timing.BreakerSleep *= 60 })
	srv := httptest.NewUnstartedServer(http.HandlerFunc(fine))
	l, err := net.Listen("tcp", addresstest.Host(t)+":0")
	if err != nil {
		t.Fatal(err)
	}
	_ = srv.Listener.Close() // of an address that others may be given after the kill
	srv.Listener = l
	srv.Start()
	e.registry.add("signup", "us-east/a/signup/1", "a", srv.Listener.Addr().String())
	e.counting("b", "us-east/b/signup/2", fine)
	if got := e.get(t, 50, 4); got[200] != 50 {
		t.Fatalf("before: %v", got)
	}
	srv.CloseClientConnections()
	srv.Close()
	// Idempotent requests lose nothing, whether they meet a closed connection
	// of the pool or nobody that listens.
	if got := e.get(t, 100, 4); got[200] != 100 {
		t.Errorf("after the kill: %v", got)
	}
}

func TestNewServerIsTakenIn(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	e.counting("a", "us-east/a/signup/1", fine)
	e.get(t, 60, 4)
	fresh := e.counting("a", "us-east/a/signup/2", fine)
	// One slow answer keeps a server aside until the time has worn it off.
	eventually(t, "the new server to get its share", func() bool {
		e.get(t, 50, 4)
		return fresh.Load() >= probationAnswers
	})
	// An answer is counted after its client has it.
	eventually(t, "nobody to be on probation", func() bool {
		return !slices.ContainsFunc(e.Origins()[0].Servers, func(s ServerStatus) bool { return s.Probation })
	})
}

// A server that leaves the registry finishes what it has, and gets no more.
func TestDrainingServerFinishesItsRequests(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	inside, release := make(chan struct{}), make(chan struct{})
	leaving := e.counting("a", "us-east/a/signup/1", func(w http.ResponseWriter, r *http.Request) {
		close(inside)
		<-release
		fine(w, r)
	})
	first := make(chan map[int]int, 1)
	go func() { first <- e.get(t, 1, 1) }()
	<-inside
	e.registry.mu.Lock()
	e.registry.vips["signup"] = []lookup.Instance{}
	e.registry.mu.Unlock()
	e.counting("a", "us-east/a/signup/2", fine)
	if got := e.get(t, 20, 2); got[200] != 20 {
		t.Errorf("while it drains: %v", got)
	}
	close(release)
	if got := <-first; got[200] != 1 || leaving.Load() != 1 {
		t.Errorf("its request got %v; it was asked %d times", got, leaving.Load())
	}
}

// Everything fails: the budget lets so many tries through and no more, and what
// is tried is recorded.
func TestRetriesStopWithTheBudget(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	var hits []*atomic.Int64
	for _, zone := range []string{"a", "b", "c"} {
		hits = append(hits, e.counting(zone, "us-east/"+zone+"/signup/1", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}))
	}
	if got := e.get(t, 100, 1); got[503] != 100 {
		t.Fatalf("%v", got)
	}
	tries := int64(0)
	for _, h := range hits {
		tries += h.Load()
	}
	if tries < 110 || tries > 200 {
		t.Errorf("%d tries for 100 requests that all failed", tries)
	}
	if n := e.metric("gateway_retries_withheld_total", "vip", "signup"); n == 0 {
		t.Error("no retry was withheld")
	}
}

// The limit falls while everything times out, and the API then has fewer
// requests than the set limit.
func TestAdaptiveLimitOfAnOrigin(t *testing.T) {
	var a adaptive
	if n := a.now("", 200); n != 200 {
		t.Errorf("without an algorithm: %d", n)
	}
	if n := a.now("gradient2", 200); n != 200 {
		t.Errorf("at the start: %d, want all", n)
	}
	now := time.Unix(1000, 0)
	for range 100 {
		for range 20 {
			now = now.Add(100 * time.Millisecond)
			a.learn(now.Add(-time.Second), now, 180, late)
		}
	}
	if n := a.now("gradient2", 200); n != adaptiveLeast {
		t.Errorf("after steady timeouts: %d, want the least", n)
	}
	if n := a.now("gradient2", 5); n != 5 {
		t.Errorf("with another limit set: %d", n)
	}
	e := newWorld(t).gateway("us-east")
	e.counting("a", "us-east/a/signup/1", fine)
	e.get(t, 1, 1)
	for value, want := range map[string]string{"none": "", "vegas": "vegas", "fastest": "vegas"} {
		if value == "fastest" { // refused: the old one stays
			e.set(PropertyLimit, "vegas")
		}
		e.set(PropertyLimit, value)
		if got := *e.settings.limit.Load(); got != want {
			t.Errorf("%s: the algorithm is %q", value, got)
		}
	}
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
		for _, s := range e.instances("signup", time.Now(), nil) {
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
	if n := testing.AllocsPerRun(1000, func() {
		now := time.Now()
		s, _ := pick(e.instances("signup", now, room[:0]), nil, now)
		s.load.tried(answered, time.Millisecond, now, time.Second)
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
			for b.Loop() {
				now := time.Now()
				s, _ := pick(e.instances("signup", now, room[:0]), nil, now)
				s.load.tried(answered, time.Millisecond, now, time.Second)
			}
		})
	}
}
