package gateway

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flix-lab/flix/services/addresstest"
	"github.com/flix-lab/flix/services/lookup"
)

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
