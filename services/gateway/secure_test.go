package gateway

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
)

// originOver starts a fixed origin that speaks a scheme, and returns its URL.
func originOver(t *testing.T, w *world, scheme string) string {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("X-Spoke", r.Proto)
		rw.Header().Set("X-Host", r.Host)
		rw.Header().Set("X-Asked", r.RequestURI)
		if r.URL.RawQuery == "header" {
			for n := range 1000 {
				rw.Header().Set("X-Long-"+strconv.Itoa(n), strings.Repeat("x", 1000))
			}
		}
		rw.WriteHeader(http.StatusOK)
	}))
	switch scheme {
	case schemeTLS:
		s.EnableHTTP2 = true
		s.TLS = &tls.Config{Certificates: []tls.Certificate{w.cert}}
		s.StartTLS()
	case schemeH2C:
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
	default:
		s.Start()
	}
	t.Cleanup(s.Close)
	return scheme + "://" + s.Listener.Addr().String()
}

func TestFixedOriginsOfEveryScheme(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east", func(d *Deps) { d.OriginCAs = w.roots })
	secure := originOver(t, w, schemeTLS)
	routes := []Route{
		{Prefix: "/plain", Origins: []string{originOver(t, w, schemePlain)}},
		{Prefix: "/h2c", Origins: []string{originOver(t, w, schemeH2C)}, Rewrite: "/v2/"},
		{Prefix: "/secure", Origins: []string{secure}, ServerName: edgeHost, Rewrite: "/"},
		{Prefix: "/other", Origins: []string{secure}, ServerName: "other.example.org"},
		{Prefix: "/address", Origins: []string{secure}},
	}
	b, err := json.Marshal(routes)
	if err != nil {
		t.Fatal(err)
	}
	e.set(PropertyRoutes, string(b))
	c := e.client(eastClient, true)
	port := secure[strings.LastIndex(secure, ":"):]
	for path, want := range map[string]string{
		"/plain/a%2Fb?q=1":    "HTTP/1.1 " + edgeHost + " /plain/a%2Fb?q=1",
		"/h2c/x/y?q=%20":      "HTTP/2.0 " + edgeHost + " /v2/x/y?q=%20",
		"/h2c":                "HTTP/2.0 " + edgeHost + " /v2/",
		"/secure/a%2Fb/c%20d": "HTTP/2.0 " + edgeHost + port + " /a%2Fb/c%20d",
		"/secure":             "HTTP/2.0 " + edgeHost + port + " /",
	} {
		a := ask(t, c, "GET", path, "")
		if got := a.Header.Get("X-Spoke") + " " + a.Header.Get("X-Host") + " " + a.Header.Get("X-Asked"); got != want {
			t.Errorf("%s: status %d, the origin saw %q, want %q", path, a.StatusCode, got, want)
		}
	}
	for _, path := range []string{"/other", "/address"} { // the certificate is for neither
		if a := ask(t, c, "GET", path, ""); a.StatusCode < 500 {
			t.Errorf("%s: status %d of an origin that proves nothing", path, a.StatusCode)
		}
	}
}

// What a server says that is no answer of the protocol that it was asked in is
// told apart from a connection that broke, and what it said stays inside.
func TestOriginsThatSpeakSomethingElse(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east", func(d *Deps) { d.OriginCAs = w.roots })
	speaking := func(words string, secure bool) string {
		return origin(t, func(c net.Conn, _ *bufio.Reader) {
			if secure {
				c = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{w.cert}})
			}
			r := bufio.NewReader(c)
			if preface, err := r.Peek(4); err == nil && string(preface) == "PRI " {
				_, _ = r.Discard(len(http2.ClientPreface))
				f := http2.NewFramer(c, r)
				for is := http2.FrameType(0); is != http2.FrameHeaders; {
					frame, err := f.ReadFrame()
					if err != nil {
						return
					}
					is = frame.Header().Type
				}
			} else if _, err := http.ReadRequest(r); err != nil {
				return
			}
			_, _ = io.WriteString(c, words)
			_, _ = io.Copy(io.Discard, c)
		})
	}
	const (
		odd     = "HTTP/1.1 hello\r\n\r\n"
		settled = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
		reset   = "\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x02"
	)
	routes, err := json.Marshal([]Route{
		{Prefix: "/h2c", Origins: []string{"h2c://" + speaking("HTTP/1.1 400 Bad Request\r\n\r\n", false)}},
		{Prefix: "/secure", Origins: []string{"https://" + speaking(odd, true)}, ServerName: edgeHost},
		{Prefix: "/pseudo", Origins: []string{"h2c://" + speaking(settled+"\x00\x00\x05\x01\x05\x00\x00\x00\x01\x00\x01a\x01b", false)}},
		{Prefix: "/reset", Origins: []string{"h2c://" + speaking(settled+reset, false)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	e.set(PropertyRoutes, string(routes))
	for path, want := range map[string]string{"/h2c": ReasonBadAnswer, "/secure": ReasonBadAnswer, "/pseudo": ReasonBadAnswer, "/reset": ReasonReset} {
		a := ask(t, e.client(eastClient, true), "GET", path, "")
		status := map[string]int{ReasonBadAnswer: http.StatusBadGateway, ReasonReset: http.StatusGatewayTimeout}[want]
		if p := a.problem(t); a.StatusCode != status || p.Reason != want || strings.Contains(a.body, "hello") || p.Remedy == "" {
			t.Errorf("%s: status %d, %s", path, a.StatusCode, a.body)
		}
	}
}

// A server that resets every request is not asked on and on, and its resets are no
// answer; nor is a header without end one.
func TestOriginsThatResetEveryRequest(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	var asked atomic.Int64
	addr := origin(t, func(c net.Conn, r *bufio.Reader) {
		_, _ = r.Discard(len(http2.ClientPreface))
		f := http2.NewFramer(c, r)
		_ = f.WriteSettings()
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			if h, ok := frame.(*http2.HeadersFrame); ok {
				asked.Add(1)
				_ = f.WriteRSTStream(h.StreamID, http2.ErrCodeProtocol)
			}
		}
	})
	long := originOver(t, e.w, schemeH2C)
	e.set(PropertyRoutes, `[{"prefix":"/reset","origins":["h2c://`+addr+`"]},{"prefix":"/long","origins":["`+long+`"]}]`)
	c := e.client(eastClient, true)
	for _, method := range []string{"GET", "POST"} {
		asked.Store(0)
		a := ask(t, c, method, "/reset", map[string]string{"POST": "x"}[method])
		if p := a.problem(t); a.StatusCode != http.StatusGatewayTimeout || p.Reason != ReasonReset || asked.Load() > maxSent {
			t.Errorf("%s: status %d, %s; the server was asked %d times", method, a.StatusCode, a.body, asked.Load())
		}
	}
	if a := ask(t, c, "GET", "/long?header", ""); a.StatusCode != http.StatusBadGateway || a.problem(t).Reason != ReasonBadAnswer {
		t.Errorf("a header without end: status %d, %.100s", a.StatusCode, a.body)
	}
	if a := ask(t, c, "GET", "/long", ""); a.StatusCode != http.StatusOK {
		t.Errorf("the same server then: status %d, %s", a.StatusCode, a.body)
	}
}

func TestRoutesToFixedOriginsAreChecked(t *testing.T) {
	for text, ok := range map[string]bool{
		`{"prefix":"/a","origins":["https://127.0.0.1:1"],"server_name":"example.org","rewrite":"/v1"}`: true,
		`{"prefix":"/a","origins":["h2c://127.0.0.1:1","h2c://127.0.0.1:2"]}`:                           true,
		`{"prefix":"/a","origins":["http://127.0.0.1:1","https://127.0.0.1:2"]}`:                        false,
		`{"prefix":"/a","origins":["ftp://127.0.0.1:1"]}`:                                               false,
		`{"prefix":"/a","origins":["http://127.0.0.1:1"],"server_name":"example.org"}`:                  false,
		`{"prefix":"/a","origins":["https://127.0.0.1:1"],"server_name":"Exa mple"}`:                    false,
		`{"prefix":"/a","origins":["http://127.0.0.1:1"],"rewrite":"/a/../b"}`:                          false,
		`{"prefix":"/a","origins":["http://127.0.0.1:1"],"rewrite":"v1"}`:                               false,
		`{"prefix":"/a","vip":"signup","rewrite":"/v1"}`:                                                false,
		`{"overlay":true,"origins":["http://127.0.0.1:1"],"rewrite":"/v1"}`:                             false,
	} {
		if _, err := ParseTable("["+text+"]", nil); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestRewritten(t *testing.T) {
	for _, x := range []struct{ matched, by, path, raw, query, want string }{
		{"/api", "/", "/api/x", "", "", "/x"},
		{"/api/", "/", "/api/x", "", "", "/x"},
		{"/api", "/", "/api", "", "a=1", "/?a=1"},
		{"/api", "/v1", "/api", "", "", "/v1"},
		{"/api", "/v1", "/api/", "", "", "/v1/"},
		{"/api", "/v1/", "/api/x/y", "", "", "/v1/x/y"},
		{"/", "/v1", "/x", "", "", "/v1/x"},
		{"/", "/", "/", "", "", "/"},
		{"/api", "/v1", "/api/a/b", "/api/a%2Fb", "", "/v1/a%2Fb"},
		{"/api", "/v1", "/api/a/b", "/%61pi/a%2Fb", "", "/v1/a%2Fb"}, // the match was encoded, too
		{"/api", "/v1", "/api/ü x", "", "", "/v1/%C3%BC%20x"},
	} {
		r := Request{Path: x.path, RawPath: x.raw, Query: x.query}
		if got := r.rewritten(x.matched, x.by); got != x.want {
			t.Errorf("%+v: %q", x, got)
		}
	}
}
