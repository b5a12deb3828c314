package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flix-lab/flix/services/addresstest"
	"github.com/flix-lab/flix/topology"
)

// shortTry is the time of a try that is to end: enough for the others, also on a
// machine that stands still for a second.
const shortTry = "1500ms"

// failing adds a server to the gateway's zone that fails in the given way.
func failing(t *testing.T, e *edge, how string) (hits *atomic.Int64) {
	t.Helper()
	hits = new(atomic.Int64)
	const id = "us-east/a/signup/bad"
	switch how {
	case "connect":
		e.registry.add("signup", id, "a", addresstest.Refusing(t))
	case "503":
		e.api("signup", id, func(w http.ResponseWriter, r *http.Request) {
			hits.Add(1)
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, "busy")
		})
	case "500":
		e.api("signup", id, func(w http.ResponseWriter, r *http.Request) {
			hits.Add(1)
			w.WriteHeader(http.StatusInternalServerError)
		})
	case "reset":
		e.api("signup", id, func(http.ResponseWriter, *http.Request) {
			hits.Add(1)
			panic(http.ErrAbortHandler)
		})
	case "timeout":
		e.set(PropertyTimeout, shortTry)
		e.api("signup", id, func(_ http.ResponseWriter, r *http.Request) {
			hits.Add(1)
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		})
	}
	return hits
}

func TestRetryRules(t *testing.T) {
	big := strings.Repeat("x", maxReplay+1)
	tests := []struct {
		how, method, body string
		key               bool
		status            int
		by                string // "good" if another server was tried
		attempts          string
	}{
		{"connect", "GET", "", false, 200, "good", "connect answered"},
		{"connect", "POST", "body", false, 200, "good", "connect answered"},
		{"connect", "POST", big, false, 200, "good", "connect answered"},
		{"503", "GET", "", false, 200, "good", "overloaded answered"},
		{"503", "POST", "body", false, 200, "good", "overloaded answered"},
		{"503", "POST", big, false, 503, "", "overloaded"},
		{"500", "GET", "", false, 200, "good", "error answered"},
		{"500", "POST", "body", false, 500, "", "error"},
		{"500", "POST", "body", true, 200, "good", "error answered"},
		{"reset", "GET", "", false, 200, "good", "reset answered"},
		{"reset", "POST", "body", false, 504, "", "reset"},
		{"reset", "POST", "body", true, 200, "good", "reset answered"},
		{"timeout", "GET", "", false, 200, "good", "timeout answered"},
		{"timeout", "HEAD", "", false, 200, "", "timeout answered"},
		{"timeout", "POST", "body", false, 504, "", "timeout"},
		{"timeout", "PUT", "body", true, 200, "good", "timeout answered"},
		{"timeout", "PUT", big, true, 504, "", "timeout"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s %s %d bytes key=%t", tt.how, tt.method, len(tt.body), tt.key), func(t *testing.T) {
			t.Parallel() // most of them wait for a try to end
			w := newWorld(t)
			e := w.gateway("us-east")
			hits := failing(t, e, tt.how)
			// Of another zone: tried after the bad one.
			e.apiIn("b", "signup", "us-east/b/signup/good", echo("good"))
			header := []string{DebugHeader, w.debug()}
			if tt.key {
				header = append(header, "Idempotency-Key", "k1")
			}
			a := ask(t, e.client(eastClient, true), tt.method, "/signup/member", tt.body, header...)
			if a.StatusCode != tt.status {
				t.Fatalf("status %d, want %d; body %.200q", a.StatusCode, tt.status, a.body)
			}
			if tt.by != "" {
				if s := a.seen(t); s.By != tt.by || s.Body != tt.body || s.Method != tt.method {
					t.Errorf("the second server saw %s %d bytes", s.Method, len(s.Body))
				}
			}
			if got := outcomes(a.Header.Get(attemptsHeader)); got != tt.attempts {
				t.Errorf("attempts: %s, want %s", got, tt.attempts)
			}
			if n := hits.Load(); tt.how != "connect" && n != 1 {
				t.Errorf("the bad server was hit %d times", n)
			}
		})
	}
}

// outcomes reads the attempts header.
func outcomes(header string) string {
	var out []string
	for part := range strings.SplitSeq(header, `"outcome":"`) {
		if o, _, ok := strings.Cut(part, `"`); ok && !strings.HasPrefix(part, "[") {
			out = append(out, o)
		}
	}
	return strings.Join(out, " ")
}

func TestErrorMapping(t *testing.T) {
	tests := []struct {
		name   string
		set    func(*testing.T, *edge)
		status int
		reason string
	}{
		{"no servers", func(*testing.T, *edge) {}, 502, ReasonNoServers},
		{"connect", func(t *testing.T, e *edge) { failing(t, e, "connect") }, 502, ReasonConnect},
		{"timeout", func(t *testing.T, e *edge) { failing(t, e, "timeout") }, 504, ReasonTimeout},
		{"reset", func(t *testing.T, e *edge) { failing(t, e, "reset") }, 504, ReasonReset},
		{"deadline", func(t *testing.T, e *edge) {
			failing(t, e, "timeout")
			e.set(PropertyTimeout, "")
			e.set(PropertyDeadline, shortTry)
		}, 504, ReasonTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := newWorld(t).gateway("us-east")
			tt.set(t, e)
			a := ask(t, e.client(eastClient, true), "POST", "/signup/member", "x")
			if p := a.problem(t); a.StatusCode != tt.status || p.Reason != tt.reason {
				t.Errorf("status %d, %+v; want %d %s", a.StatusCode, p, tt.status, tt.reason)
			}
		})
	}
}

func TestConcurrencyGuard(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	release := make(chan struct{})
	e.api("signup", "us-east/a/signup/1", func(http.ResponseWriter, *http.Request) { <-release })
	e.set(PropertyConcurrency, "1")
	c := e.client(eastClient, true)
	first := make(chan int, 1)
	go func() {
		resp, err := c.Get("https://" + edgeHost + "/signup/plans")
		if err != nil {
			first <- 0
			return
		}
		_ = resp.Body.Close()
		first <- resp.StatusCode
	}()
	places := func() int64 {
		e.guards.mu.Lock()
		defer e.guards.mu.Unlock()
		if n := e.guards.open["signup"]; n != nil {
			return n.Load()
		}
		return 0
	}
	eventually(t, "one request is at the API", func() bool { return places() == 1 })
	a := ask(t, c, "GET", "/signup/plans", "")
	if p := a.problem(t); a.StatusCode != 503 || p.Reason != ReasonConcurrency || a.Header.Get("Retry-After") != "1" || a.Header.Get(statusHeader) != FailureLocalThrottledConcurrency.String() {
		t.Errorf("status %d, %+v, %v", a.StatusCode, p, a.Header)
	}
	close(release)
	if s := <-first; s != 200 {
		t.Errorf("the first request got %d", s)
	}
	eventually(t, "its place is free", func() bool { return places() == 0 })
	if a := ask(t, c, "GET", "/signup/plans", ""); a.StatusCode != 200 {
		t.Errorf("after it: %d", a.StatusCode)
	}
}

func TestServerThatRefusedIsLeftOut(t *testing.T) {
	e := newWorld(t).gateway("us-east", func(d *Deps) { d.Timing.BreakerSleep *= 60 })
	failing(t, e, "connect")
	e.api("signup", "us-east/a/signup/1", echo("good"))
	c := e.client(eastClient, true)
	for range 10 {
		if a := ask(t, c, "GET", "/signup/plans", ""); a.StatusCode != 200 {
			t.Fatalf("status %d", a.StatusCode)
		}
	}
	if n := e.metric("gateway_tries_total", "outcome", "connect"); n > 1 {
		t.Errorf("the dead server was tried %v times", n)
	}
}

func TestPickPrefersRankThenLoad(t *testing.T) {
	now := time.Unix(1000, 0)
	mk := func(addr string, rank int, inFlight int64, ejected bool) server {
		l := new(load)
		l.InFlight.Store(inFlight)
		l.answers.Store(probationAnswers)
		if ejected {
			l.ejectedUntil.Store(now.Add(time.Second).UnixNano())
		}
		return server{addr: addr, rank: rank, load: l}
	}
	tests := []struct {
		name    string
		servers []server
		tried   []string
		want    string
	}{
		{"own zone first", []server{mk("b", 1, 0, false), mk("a", 0, 9, false)}, nil, "a"},
		{"less load", []server{mk("a", 0, 9, false), mk("b", 0, 1, false)}, nil, "b"},
		{"not again", []server{mk("a", 0, 0, false), mk("b", 1, 0, false)}, []string{"a"}, "b"},
		{"not the ejected", []server{mk("a", 0, 0, true), mk("b", 1, 5, false)}, nil, "b"},
		{"ejected at last", []server{mk("a", 0, 0, true), mk("b", 1, 5, false)}, []string{"b"}, "a"},
		{"none", []server{mk("a", 0, 0, false)}, []string{"a"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := pick(tt.servers, tt.tried, now)
			if got.addr != tt.want || ok != (tt.want != "") {
				t.Errorf("picked %q, want %q", got.addr, tt.want)
			}
		})
	}
}

// What lies between a gateway and the services, such as a partition, acts in the
// lab's dialer.
func TestServicesAreDialledByTheLabsDialer(t *testing.T) {
	var far string
	e := newWorld(t).gateway("us-east", func(d *Deps) {
		d.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("the gateway would wait forever")
			}
			if addr == far {
				return nil, errors.New("it is cut off")
			}
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}
	})
	e.api("signup", "us-east/a/signup/1", echo("far"))
	far = e.registry.VIP("signup")[0].Addr(topology.PortHTTP)
	if a := ask(t, e.client(eastClient, false), "GET", "/signup/plans", ""); a.StatusCode < 500 {
		t.Errorf("one that is cut off answers %d", a.StatusCode)
	}
	e.api("signup", "us-east/b/signup/2", echo("near"))
	if s := ask(t, e.client(eastClient, false), "GET", "/signup/plans", "").seen(t); s.By != "near" {
		t.Errorf("answered by %q, want the one that can be reached", s.By)
	}
}
