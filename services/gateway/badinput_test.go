package gateway

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/addresstest"
	"github.com/flix-lab/flix/services/gateway/wire"
	"github.com/flix-lab/flix/services/token"
)

// A token that is over, not ours, or made for something else makes nobody a
// member; a route that asks for none answers as if there were none.
func TestTokensThatAreNoMembers(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	e.api("play", "us-east/a/play/1", echo("play"))
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	other, err := token.NewKey("test-lab", []byte(strings.Repeat("o", 32)))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := token.NewKey("another-lab", bytes.Repeat([]byte("k"), 32))
	if err != nil {
		t.Fatal(err)
	}
	claims, now := token.Claims{Member: "m-1", Plan: "premium"}, time.Now()
	good := w.key.Sign(token.Member, claims, now, time.Hour)
	body, signature, _ := strings.Cut(good, ".")
	tokens := map[string]string{
		"expired":                  w.key.Sign(token.Member, claims, now.Add(-2*time.Hour), time.Hour),
		"of another lab":           elsewhere.Sign(token.Member, claims, now, time.Hour),
		"of another key":           other.Sign(token.Member, claims, now, time.Hour),
		"with another's signature": body + "." + strings.Repeat("A", len(signature)),
		"with no signature":        body + ".",
		"for an appliance":         w.key.Sign(token.URL, claims, now, time.Hour),
		"for a stock player":       w.key.Sign(token.Stock, claims, now, time.Hour),
		"for the operator":         w.key.Sign(token.AdminKey, claims, now, time.Hour),
		"empty":                    "",
		"of no UTF-8":              "\xff\xfe.\xff",
	}
	for _, h2 := range []bool{false, true} {
		c := e.client(eastClient, h2)
		if a := ask(t, c, "GET", "/play/x", "", "Authorization", "Bearer "+good); a.StatusCode != 200 {
			t.Fatalf("h2=%t: a good token: status %d", h2, a.StatusCode)
		}
		for name, tok := range tokens {
			a := ask(t, c, "GET", "/play/x", "", "Authorization", "Bearer "+tok)
			if p := a.problem(t); a.StatusCode != 401 || p.Reason != ReasonNoToken {
				t.Errorf("h2=%t: a token %s: status %d, %+v", h2, name, a.StatusCode, p)
			}
			a = ask(t, c, "GET", "/signup/plans", "", "Authorization", "Bearer "+tok)
			if a.StatusCode != 200 || a.seen(t).Header.Get("X-Flix-Member") != "" {
				t.Errorf("h2=%t: a token %s is no matter where none is asked for: status %d", h2, name, a.StatusCode)
			}
		}
	}
}

// Who speaks plain HTTP to the port of TLS reads so, whatever stands before the
// request; what is neither gets no words.
func TestPlainHTTPToTLS(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	for text, answered := range map[string]bool{
		"GET / HTTP/1.1\r\nHost: h\r\n\r\n": true, "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n": true,
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 65536\r\n\r\n" + strings.Repeat("x", 65536): true,
		"SSH-2.0-x\r\n\r\n\r\n": false, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00": false,
	} {
		for _, open := range []func() (net.Conn, error){
			func() (net.Conn, error) { return net.Dial("tcp", e.addr) },
			func() (net.Conn, error) { return dialAs(t.Context(), e.addr, eastClient) },
		} {
			c, err := open()
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(patience))
			_, _ = io.WriteString(c, text) // one that is refused need not take it all
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if answered != (err == nil) {
				t.Errorf("%.20q: %v", text, err)
			}
			if err == nil {
				b, err := io.ReadAll(resp.Body)
				if resp.StatusCode != http.StatusBadRequest || !resp.Close || !json.Valid(b) || !strings.Contains(string(b), "speaks TLS") || err != nil {
					t.Errorf("%.20q: %s, %s, %v", text, resp.Status, b, err)
				}
			}
			_ = c.Close()
		}
	}
}

// An API that no instance serves is told apart from one that there is not, and
// the gateway goes on.
func TestVIPWithoutServers(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	c := e.client(eastClient, true)
	for range 3 {
		a := ask(t, c, "GET", "/signup/plans", "")
		if p := a.problem(t); a.StatusCode != 502 || p.Reason != ReasonNoServers || p.Remedy == "" {
			t.Errorf("status %d, %+v", a.StatusCode, p)
		}
	}
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	if a := ask(t, c, "GET", "/signup/plans", ""); a.StatusCode != 200 {
		t.Errorf("once there is one: status %d", a.StatusCode)
	}
}

// Paths and fields of any bytes are passed on as they are or refused with an
// answer that is JSON; neither ends the gateway.
func TestBytesThatAreNoUTF8(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	for text, want := range map[string]int{
		"GET /signup/%ff%fe HTTP/1.1\r\nHost: x\r\n":                                                          200,
		"GET /signup/%c0%ae%c0%ae/play HTTP/1.1\r\nHost: x\r\n":                                               200, // an overlong dot is no dot
		"GET /nowhere/%ff HTTP/1.1\r\nHost: x\r\n":                                                            404,
		"GET /signup/%zz HTTP/1.1\r\nHost: x\r\n":                                                             400,
		"GET /signup/\xff HTTP/1.1\r\nHost: x\r\n":                                                            400,
		"GET /signup/plans?q=\xff HTTP/1.1\r\nHost: x\r\n":                                                    400,
		"GET /signup/plans?q=%ff HTTP/1.1\r\nHost: x\r\n":                                                     200,
		"GET /signup/plans HTTP/1.1\r\nHost: \xff\r\n":                                                        400,
		"GET /signup/plans HTTP/1.1\r\nHost: x\r\nX-Re\xffquest: a\r\n":                                       400,
		"GET /signup/plans HTTP/1.1\r\nHost: x\r\nX-Other: \xff\xfe\r\n":                                      200,
		"GET /signup/plans HTTP/1.1\r\nHost: x\r\nX-Request-Id: \xff\r\n":                                     200,
		"GET /signup/plans HTTP/1.1\r\nHost: x\r\nTraceparent: \xff\r\n":                                      200,
		"GET /signup/plans HTTP/1.1\r\nHost: x\r\nX-Flix-Debug: \xff.\xff\r\n":                                0, // by TestDebug…; here only that it is answered
		"OPTIONS /signup/plans HTTP/1.1\r\nHost: x\r\nOrigin: \xff\r\nAccess-Control-Request-Method: GET\r\n": 403,
	} {
		client := e.raw(t)
		client.send("%s", text+"Connection: close\r\n\r\n")
		resp, body := client.answer(http.MethodGet)
		status := resp.StatusCode
		if status != want && want != 0 || status < 200 {
			t.Errorf("%q: status %d, want %d: %.200q", text, status, want, body)
		}
		if status >= 400 && (!json.Valid([]byte(body)) || !utf8.ValidString(body)) {
			t.Errorf("%q: the refusal is no JSON: %q", text, body)
		}
	}
	// What is passed on is what came.
	client := e.raw(t)
	client.send("%s", "GET /signup/%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	_, body := client.answer(http.MethodGet)
	if !strings.Contains(body, "/signup/%ff") && !strings.Contains(body, "/signup/%FF") {
		t.Errorf("the API saw %s", body)
	}
}

// badBodies are requests whose bodies are not what their heads announce; after
// each of them the connection ends.
var badBodies = map[string]struct {
	text   string
	status int
	reason string
}{
	"a size that is no number":   {"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", 400, ReasonMalformed},
	"a size above all bounds":    {"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", 400, ReasonMalformed},
	"a negative size":            {"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n", 400, ReasonMalformed},
	"more data than the size":    {"Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", 400, ReasonMalformed},
	"a size that ends in LF":     {"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", 400, ReasonMalformed},
	"a trailer that frames":      {"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n", 400, ReasonMalformed},
	"chunks that stop":           {"Transfer-Encoding: chunked\r\n\r\n3\r\nab", 408, ReasonSlowBody},
	"less than its length":       {"Content-Length: 10\r\n\r\nhalf", 408, ReasonSlowBody},
	"two ways to end":            {"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, ReasonMalformed},
	"two lengths":                {"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400, ReasonMalformed},
	"more than is taken":         {"Content-Length: 99999999\r\n\r\nabc", 413, ReasonTooLarge},
	"a coding that nobody knows": {"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501, ReasonMalformed},
}

// A client that ends its side in the middle of a body is told that the body is
// not whole, at once.
func TestBodyThatEndsEarly(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	for _, text := range []string{"Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n3\r\nab"} {
		c := e.raw(t)
		c.send("%s", "POST /signup/x HTTP/1.1\r\nHost: h\r\n"+text)
		if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		resp, body := c.answer("POST")
		var p services.Problem
		if err := json.Unmarshal([]byte(body), &p); err != nil || resp.StatusCode != 400 || p.Reason != ReasonMalformed {
			t.Errorf("%q: status %d, %q", text, resp.StatusCode, body)
		}
	}
	// None of it is held against the server.
	if gone, reset := e.metric("gateway_tries_total", "outcome", "client_gone"), e.metric("gateway_tries_total", "outcome", "reset"); gone != 2 || reset != 0 {
		t.Errorf("%g tries ended with the client, %g with the server", gone, reset)
	}
}

// A server that answers a request before its body has come, and ends its
// connection, ends the client's: the client is told, or its next request is lost.
func TestAnswerBeforeTheBody(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	e.registry.add("signup", "us-east/a/signup/1", "a", origin(t, func(c net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge")
	}))
	c := e.raw(t)
	c.send("POST /signup/x HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nabc")
	if resp, body := c.answer("POST"); resp.StatusCode != 413 || body != "large" || !resp.Close {
		t.Errorf("%s %q, connection ends: %t", resp.Status, body, resp.Close)
	}
	if _, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the connection is kept: %v", err)
	}
}

// Who cannot be served does not learn where the servers are.
func TestErrorsNameNoServer(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	addr := addresstest.Refusing(t)
	host, _, _ := net.SplitHostPort(addr)
	e.registry.add("signup", "us-east/a/signup/1", "a", addr)
	e.registry.add("play", "us-east/a/play/1", "a", origin(t, func(c net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		_, _ = io.WriteString(c, "SECRET\r\n\r\n")
	}))
	c := e.client(eastClient, true)
	for path, want := range map[string]string{"/signup/plans": ReasonConnect, "/play/x": ReasonBadAnswer} {
		a := ask(t, c, "GET", path, "", "Authorization", e.w.member("m-1"))
		if p := a.problem(t); p.Reason != want || p.Remedy == "" || strings.Contains(a.body, "127.0.0.1") || strings.Contains(a.body, host) || strings.Contains(a.body, "SECRET") {
			t.Errorf("%s: status %d, %s", path, a.StatusCode, a.body)
		}
	}
}

// A field with "_" for "-" is the same to an API in the manner of CGI.
func TestInsideFieldsInDisguiseAreStripped(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	a := ask(t, e.client(eastClient, false), "GET", "/signup/x", "", "X_Flix_Member", "m-1", "X-Flix_Client-Ip", "1.2.3.4", "X_Forwarded_For", "1.2.3.4", "X_Other", "kept")
	h := a.seen(t).Header
	for name := range h {
		if strings.Contains(name, "_") && name != "X_other" && name != "X_Other" {
			t.Errorf("the API saw %s: %s", name, h[name])
		}
	}
	if h.Get("X_Other") != "kept" {
		t.Errorf("the API saw %v", h)
	}
}

// A body that is no body is its client's fault: it is told so, no server gets a
// bad name by it, however often it happens, and nothing of it stays behind.
func TestBadBodies(t *testing.T) {
	w := newWorld(t)
	e := w.bounded("us-east", func(l *wire.Limits) { l.Body, l.Linger = 200*time.Millisecond, time.Second })
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	good := func() {
		t.Helper()
		c := e.raw(t)
		c.send("POST /signup/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfull")
		if resp, body := c.answer("POST"); resp.StatusCode != 200 {
			t.Fatalf("a good request: %s %s", resp.Status, body)
		}
		_ = c.Close()
	}
	good()
	before := descriptors(t)
	for name, tt := range badBodies {
		for range 4 { // more than it takes to leave a server out
			c := e.raw(t)
			c.send("%s", "POST /signup/x HTTP/1.1\r\nHost: h\r\n"+tt.text)
			resp, body := c.answer("POST")
			var p services.Problem
			if err := json.Unmarshal([]byte(body), &p); err != nil || resp.StatusCode != tt.status || p.Reason != tt.reason {
				t.Errorf("%s: status %d, %q; want %d, %s", name, resp.StatusCode, body, tt.status, tt.reason)
			}
			if !resp.Close {
				t.Errorf("%s: the client is not told that the connection ends, and may lose its next request", name)
			}
			if _, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
				t.Errorf("%s: the connection is kept: %v", name, err)
			}
			_ = c.Close()
		}
		for addr, l := range e.servers.loads {
			if n := l.failures.Load(); n > 0 || l.ejected(time.Now()) {
				t.Errorf("%s: %s has %d failures to its name", name, addr, n)
			}
		}
		good()
	}
	// A connection of the pool more or less is none of theirs.
	eventually(t, "no descriptor of theirs is open", func() bool { return descriptors(t) <= before+2 })
}

// descriptors is how many the process has open; 0 where nobody tells.
func descriptors(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return len(d)
}
