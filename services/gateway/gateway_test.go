package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/gateway/wire"
)

func TestRequestReachesItsAPI(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2=%t", h2), func(t *testing.T) {
			w := newWorld(t)
			e := w.gateway("us-east")
			e.api("play", "us-east/a/play/1", echo("play"))
			c := e.client(eastClient, h2)
			a := ask(t, c, "POST", "/play/start?x=%2F1", `{"title_id":"tt"}`, "Authorization", w.member("m-1"), "X-Request-Id", "req-1")
			if want := 1 + b2i(h2); a.ProtoMajor != want {
				t.Errorf("HTTP/%d, want HTTP/%d", a.ProtoMajor, want)
			}
			if a.StatusCode != http.StatusOK || a.Header.Get("X-Flix-Region") != "us-east" || a.Header.Get("X-Flix-Gateway") != "us-east/a/gateway/1" || a.Header.Get("X-Request-Id") != "req-1" {
				t.Errorf("status %d, header %v", a.StatusCode, a.Header)
			}
			s := a.seen(t)
			if s.Method != "POST" || s.Path != "/play/start?x=%2F1" || s.Body != `{"title_id":"tt"}` {
				t.Errorf("the API saw %+v", s)
			}
			for name, want := range map[string]string{
				"X-Flix-Member": "m-1", "X-Flix-Plan": "premium", "X-Flix-Device": "tv", "X-Flix-Country": "US",
				"X-Flix-ISP": "us-east-isp-1", "X-Flix-Client-Ip": "198.18.0.7", "X-Request-Id": "req-1",
				"X-Forwarded-For": "198.18.0.7", "X-Forwarded-Proto": "https",
			} {
				if got := s.Header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			// A request is counted when its last byte is out.
			eventually(t, "the request is counted once", func() bool {
				return e.metric("gateway_requests_total", "route", "play", "status", "200", "origin_region", "us-east", "proxied_in", "no") == 1
			})
		})
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestTraceContinuesTheClients(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	a := ask(t, e.client(eastClient, true), "GET", "/signup/plans", "", "Traceparent", "00-"+id+"-00f067aa0ba902b7-01")
	if tp := a.seen(t).Header.Get("Traceparent"); !strings.HasPrefix(tp, "00-"+id+"-") || strings.Contains(tp, "00f067aa0ba902b7") {
		t.Errorf("the API got traceparent %q", tp)
	}
	eventually(t, "both spans", func() bool { return len(e.tel.Spans(id)) == 2 })
	var names []string
	for _, s := range e.tel.Spans(id) {
		names = append(names, s.Kind+" "+s.Name)
	}
	if got := strings.Join(names, ", "); got != "client GET signup, server gateway GET /signup/plans" {
		t.Errorf("spans: %s", got)
	}
}

func TestForgedHeadersAreStripped(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	e.api("play", "us-east/a/play/1", echo("play"))
	forged := []string{
		"X-Flix-Member", "victim", "x-flix-plan", "premium", "X-Flix-Via", "e30.AAAA", "X-Zuul-Overrides", "1",
		"X-Forwarded-For", "10.0.0.1", "Forwarded", "for=10.0.0.1", "X-Real-Ip", "10.0.0.1", "X-Flix-Client-Ip", "10.0.0.1",
		"Connection", "X-Secret-Hop", "X-Secret-Hop", "1", "Proxy-Authorization", "x",
	}
	s := ask(t, e.client(eastClient, false), "GET", "/signup/plans", "", forged...).seen(t)
	for _, name := range []string{"X-Flix-Member", "X-Flix-Plan", "X-Flix-Via", "X-Zuul-Overrides", "Forwarded", "X-Real-Ip", "X-Secret-Hop", "Proxy-Authorization"} {
		if v := s.Header.Get(name); v != "" {
			t.Errorf("%s got through: %q", name, v)
		}
	}
	if ip := s.Header.Get("X-Flix-Client-Ip"); ip != "198.18.0.7" {
		t.Errorf("client address %q", ip)
	}
	s = ask(t, e.client(eastClient, true), "GET", "/play/x", "", append(forged[2:16:16], "Authorization", w.member("m-1"), "X-Flix-Member", "victim")...).seen(t)
	if v := s.Header.Values("X-Flix-Member"); len(v) != 1 || v[0] != "m-1" {
		t.Errorf("member %q", v)
	}
	if n := e.metric("gateway_refused_total", "reason", "via"); n != 2 {
		t.Errorf("%v forged proofs counted, want 2", n)
	}
}

func TestHostAndAbsoluteFormNeverChooseTheUpstream(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	other := newWorld(t).gateway("us-west") // any server that would answer
	for _, target := range []string{"http://" + other.plainAddr + "/signup/plans", "/signup/plans"} {
		c, err := net.Dial("tcp", e.plainAddr)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", target, other.plainAddr)
		b, err := io.ReadAll(c)
		_ = c.Close()
		if err != nil || !strings.Contains(string(b), `"By":"signup"`) {
			t.Errorf("%s: %q, %v", target, b, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	e.api("play", "us-east/a/play/1", echo("play"))
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	e.registry.add("discovery", "us-east/a/discovery/1", "a", "192.0.2.1:80") // outside OriginCIDRs
	e.set(PropertyMaxBody, "1000")
	expired := "Bearer " + strings.Repeat("x", 20) + ".AAAA"
	tests := []struct {
		name, method, path, body string
		header                   []string
		status                   int
		reason                   string
	}{
		{"no token", "GET", "/play/x", "", nil, 401, ReasonNoToken},
		{"bad token", "GET", "/play/x", "", []string{"Authorization", expired}, 401, ReasonNoToken},
		{"no route", "GET", "/playback", "", nil, 404, ReasonNoRoute},
		{"encoded dot segments", "GET", "/signup/%2e%2e/play/x", "", nil, 400, ""},
		{"too large", "POST", "/signup/member", strings.Repeat("x", 1001), nil, 413, ReasonTooLarge},
		{"instance outside the networks", "GET", "/discovery/rows", "", []string{"Authorization", w.member("m")}, 502, ReasonNoServers},
	}
	for _, h2 := range []bool{false, true} {
		c := e.client(eastClient, h2)
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s h2=%t", tt.name, h2), func(t *testing.T) {
				a := ask(t, c, tt.method, tt.path, tt.body, tt.header...)
				p := a.problem(t)
				if a.StatusCode != tt.status || p.Reason != tt.reason || p.Error == "" {
					t.Errorf("status %d, problem %+v; want %d %q", a.StatusCode, p, tt.status, tt.reason)
				}
				if tt.status == 401 && (p.Remedy == "" || a.Header.Get("Www-Authenticate") == "" || p.Kind != services.Denied) {
					t.Errorf("401 without a way out: %+v", p)
				}
				if a.Header.Get("X-Flix-Gateway") == "" || a.Header.Get("X-Request-Id") == "" {
					t.Errorf("an error is not decorated: %v", a.Header)
				}
			})
		}
	}
}

func TestBodyOfUnknownLengthIsLimited(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	e.set(PropertyMaxBody, "100000")
	for size, status := range map[int]int{100000: 200, 100001: 413} {
		body := io.MultiReader(strings.NewReader(strings.Repeat("x", size))) // hides the length
		req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+edgeHost+"/signup/member", body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := e.client(eastClient, true).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("%d bytes: status %d, want %d", size, resp.StatusCode, status)
		}
	}
}

func TestProxyHeaderOnlyFromTrustedPeers(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east", func(d *Deps) { d.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	if resp, err := e.client(eastClient, false).Get("https://" + edgeHost + "/signup/plans"); err == nil {
		_ = resp.Body.Close()
		t.Error("a PROXY header from an untrusted peer was taken")
	}
	resp, err := http.Get("http://" + e.plainAddr + "/signup/plans")
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if s := (answer{Response: resp, body: string(b)}).seen(t); err != nil || s.Header.Get("X-Flix-Client-Ip") != "127.0.0.1" || s.Header.Get("X-Flix-Country") != "US" || s.Header.Get("X-Flix-Isp") != "" {
		t.Errorf("without a header the peer is the client: %v, %v", s.Header, err)
	}
}

func TestStreamsPassPieceByPiece(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	next := make(chan string)
	e.api("signup", "us-east/a/signup/1", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		for s := range next {
			_, _ = io.WriteString(w, s)
			_ = http.NewResponseController(w).Flush()
		}
		w.Header().Set("X-Sum", "42")
	})
	for _, h2 := range []bool{false, true} {
		resp, err := func() (*http.Response, error) {
			go func() { next <- "one" }()
			return e.client(eastClient, h2).Get("https://" + edgeHost + "/signup/events")
		}()
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 3)
		if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "one" {
			t.Fatalf("first piece: %q, %v", buf, err)
		}
		next <- "two" // the API is still answering
		if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "two" {
			t.Fatalf("second piece: %q, %v", buf, err)
		}
		close(next)
		rest, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || len(rest) != 0 || resp.Trailer.Get("X-Sum") != "42" {
			t.Errorf("rest %q, trailer %v, %v", rest, resp.Trailer, err)
		}
		next = make(chan string)
	}
}

func TestBrokenAnswerIsNotPassedOffAsWhole(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	e.api("signup", "us-east/a/signup/1", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	for _, h2 := range []bool{false, true} {
		resp, err := e.client(eastClient, h2).Get("https://" + edgeHost + "/signup/plans")
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err == nil {
			t.Errorf("h2=%t: a broken answer reads as %q without an error", h2, b)
		}
	}
}

func TestUpgradePassesThrough(t *testing.T) {
	w := newWorld(t)
	east, west := w.gateway("us-east"), w.gateway("us-west")
	for _, e := range []*edge{east, west} {
		e.api("signup", "signup/1", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") != "shout" || r.Header.Get("Connection") != "Upgrade" {
				http.Error(w, "want an upgrade", http.StatusBadRequest)
				return
			}
			c, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer c.Close()
			_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\nhello ")
			_ = rw.Flush()
			line, _ := rw.ReadString('\n')
			_, _ = rw.WriteString(strings.ToUpper(line))
			_ = rw.Flush()
		})
	}
	talk := func() {
		t.Helper()
		raw, err := dialAs(t.Context(), east.addr, eastClient)
		if err != nil {
			t.Fatal(err)
		}
		c := tls.Client(raw, &tls.Config{RootCAs: w.roots, ServerName: edgeHost, NextProtos: []string{"http/1.1"}})
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(c, "GET /signup/socket HTTP/1.1\r\nHost: api.flix.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: shout\r\n\r\nearly\n")
		r := bufio.NewReader(c)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "shout" {
			t.Fatalf("%s %v", resp.Status, resp.Header)
		}
		if b, err := io.ReadAll(r); err != nil || string(b) != "hello EARLY\n" {
			t.Errorf("%q, %v", b, err)
		}
	}
	talk()
	east.set(PropertyEvacuate, `{"share":1,"savers":["us-west"]}`)
	talk()
	eventually(t, "the second upgrade is counted as come from elsewhere", func() bool { return west.Edge().ProxiedIn == 1 })
}

func TestServeEndsWithRequestsUnderWay(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	stuck := make(chan struct{})
	t.Cleanup(func() { close(stuck) })
	e.api("signup", "us-east/a/signup/1", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-stuck:
		case <-r.Context().Done():
		}
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		resp, err := e.client(eastClient, true).Get("https://" + edgeHost + "/signup/plans")
		if err == nil {
			_ = resp.Body.Close()
		}
	}()
	eventually(t, "the request is under way", func() bool { return e.Edge().InFlight == 1 })
	idle, err := dialAs(t.Context(), e.addr, eastClient) // says nothing more
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	e.stop()
	<-done
}

func TestSlowHeaderEnds(t *testing.T) {
	w := newWorld(t)
	e := w.bounded("us-east", func(l *wire.Limits) { l.Header = 250 * time.Millisecond })
	c, err := net.Dial("tcp", e.plainAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n")
	b, err := io.ReadAll(c)
	if err != nil || strings.Contains(string(b), "200") {
		t.Errorf("a header that never ends: %q, %v", b, err)
	}
}

func TestNewRefusesHalfADeclaration(t *testing.T) {
	if _, err := New(Deps{}); services.KindOf(err) != services.Invalid {
		t.Errorf("no deps: %v", err)
	}
}

func TestDrainWaitsForRequestsUnderWay(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	release := make(chan struct{})
	e.api("signup", "us-east/a/signup/1", func(http.ResponseWriter, *http.Request) { <-release })
	c := e.client(eastClient, true)
	got := make(chan error, 1)
	go func() {
		resp, err := c.Get("https://" + edgeHost + "/signup/plans")
		if err == nil {
			_ = resp.Body.Close()
		}
		got <- err
	}()
	eventually(t, "the request is under way", func() bool { return e.Edge().InFlight == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Drain(ctx); err == nil {
		t.Error("Drain returned with a request under way")
	}
	close(release)
	if err := e.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-got; err != nil {
		t.Errorf("the request under way: %v", err)
	}
}
