package wire

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// accept gives a connection's bytes to Next and reads the body it finds.
func accept(t *testing.T, text string) (*Head, string, error) {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.WriteString(theirs, text)
		_ = theirs.Close()
	}()
	defer func() { _ = ours.Close(); _ = theirs.Close(); <-done }()
	c := NewConn(ours, nil, false, nil, NewBuffers(), &Limits{MaxHeader: 8 << 10, Header: time.Minute, Idle: time.Minute, Body: time.Minute, Write: time.Minute, Linger: time.Second})
	defer c.Close()
	h := new(Head)
	if err := c.Await(time.Now()); err != nil {
		return h, "", err
	}
	if err := c.Next(h); err != nil {
		return h, "", err
	}
	c.continued = true // nobody reads from the other end
	b, err := io.ReadAll(c.Body())
	return h, string(b), err
}

func TestWhatCouldBeReadInTwoWaysIsRefused(t *testing.T) {
	const host = "Host: a\r\n"
	for name, tt := range map[string]struct {
		text   string
		status int
	}{
		"length and chunks":          {"POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"chunks and length":          {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400},
		"two lengths":                {"POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400},
		"the same length twice":      {"POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400},
		"a list of lengths":          {"POST / HTTP/1.1\r\n" + host + "Content-Length: 3, 3\r\n\r\nabc", 400},
		"a signed length":            {"POST / HTTP/1.1\r\n" + host + "Content-Length: +3\r\n\r\nabc", 400},
		"a negative length":          {"POST / HTTP/1.1\r\n" + host + "Content-Length: -3\r\n\r\nabc", 400},
		"a hexadecimal length":       {"POST / HTTP/1.1\r\n" + host + "Content-Length: 0x3\r\n\r\nabc", 400},
		"a length beyond all":        {"POST / HTTP/1.1\r\n" + host + "Content-Length: 99999999999999999999\r\n\r\nabc", 400},
		"an empty length":            {"POST / HTTP/1.1\r\n" + host + "Content-Length:\r\n\r\n", 400},
		"two codings":                {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"chunked twice":              {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501},
		"another coding":             {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
		"a disguised coding":         {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501},
		"a coding in quotes":         {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 501},
		"a vertical tab":             {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n", 400},
		"chunks in HTTP/1.0":         {"POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"space before the colon":     {"POST / HTTP/1.1\r\n" + host + "Content-Length : 3\r\n\r\nabc", 400},
		"tab before the colon":       {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", 400},
		"a folded line":              {"GET / HTTP/1.1\r\n" + host + "A: b\r\n c\r\n\r\n", 400},
		"space before the first":     {"GET / HTTP/1.1\r\n " + host + "\r\n", 400},
		"no colon":                   {"GET / HTTP/1.1\r\n" + host + "Content-Length\r\n\r\n", 400},
		"an empty name":              {"GET / HTTP/1.1\r\n" + host + ": x\r\n\r\n", 400},
		"bare LF":                    {"GET / HTTP/1.1\nHost: a\n\n", 400},
		"bare LF among CRLF":         {"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400},
		"bare CR":                    {"GET / HTTP/1.1\r\n" + host + "A: b\rTransfer-Encoding: chunked\r\n\r\n", 400},
		"CR CR LF":                   {"GET / HTTP/1.1\r\n" + host + "A: b\r\r\n\r\n", 400},
		"NUL":                        {"GET / HTTP/1.1\r\n" + host + "A: b\x00c\r\n\r\n", 400},
		"NUL in a name":              {"GET / HTTP/1.1\r\n" + host + "A\x00: b\r\n\r\n", 400},
		"no host":                    {"GET / HTTP/1.1\r\n\r\n", 400},
		"two hosts":                  {"GET / HTTP/1.1\r\n" + host + "Host: b\r\n\r\n", 400},
		"the same host twice":        {"GET / HTTP/1.1\r\n" + host + host + "\r\n", 400},
		"a host with a path":         {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
		"a host with a user":         {"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400},
		"a list of hosts":            {"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400},
		"a user in absolute form":    {"GET http://a@b/ HTTP/1.1\r\n" + host + "\r\n", 400},
		"absolute form of no HTTP":   {"GET ftp://a/ HTTP/1.1\r\n" + host + "\r\n", 400},
		"a tunnel":                   {"CONNECT a:443 HTTP/1.1\r\n" + host + "\r\n", 405},
		"HTTP/0.9":                   {"GET /\r\n\r\n", 400},
		"HTTP/3.0":                   {"GET / HTTP/3.0\r\n" + host + "\r\n", 505},
		"http/1.1":                   {"GET / http/1.1\r\n" + host + "\r\n", 400},
		"HTTP/1.10":                  {"GET / HTTP/1.10\r\n" + host + "\r\n", 400},
		"two spaces":                 {"GET  / HTTP/1.1\r\n" + host + "\r\n", 400},
		"a space in the target":      {"GET /a b HTTP/1.1\r\n" + host + "\r\n", 400},
		"a tab for a space":          {"GET\t/ HTTP/1.1\r\n" + host + "\r\n", 400},
		"a fragment":                 {"GET /a#b HTTP/1.1\r\n" + host + "\r\n", 400},
		"bad percent-encoding":       {"GET /%zz HTTP/1.1\r\n" + host + "\r\n", 400},
		"a byte of no ASCII":         {"GET /\xff HTTP/1.1\r\n" + host + "\r\n", 400},
		"a method of no token":       {"G\"T / HTTP/1.1\r\n" + host + "\r\n", 400},
		"a PROXY header":             {"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + strings.Repeat("\x01", 12), 400},
		"TLS":                        {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400},
		"an unknown expectation":     {"POST / HTTP/1.1\r\n" + host + "Expect: x\r\nContent-Length: 1\r\n\r\nx", 417},
		"a long request line":        {"GET /" + strings.Repeat("a", 9<<10) + " HTTP/1.1\r\n", 414},
		"a long header":              {"GET / HTTP/1.1\r\n" + host + "A: " + strings.Repeat("a", 9<<10) + "\r\n\r\n", 431},
		"many fields":                {"GET / HTTP/1.1\r\n" + host + strings.Repeat("A: b\r\n", maxFields+1) + "\r\n", 431},
		"a chunk of no number":       {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\nx\r\nabc\r\n0\r\n\r\n", 400},
		"a chunk of 0x":              {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", 400},
		"a signed chunk":             {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n", 400},
		"a chunk with space":         {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n", 400},
		"a chunk beyond all":         {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc\r\n0\r\n\r\n", 400},
		"a chunk ended by LF":        {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", 400},
		"a chunk's data ended by LF": {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n", 400},
		"a chunk longer than said":   {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", 400},
		"LF in an extension":         {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n0\r\n\r\n", 400},
		"CR in an extension":         {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3;a\rb\r\nabc\r\n0\r\n\r\n", 400},
		"a flood of extensions":      {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1;"+strings.Repeat("e", 1000)+"\r\na\r\n", 40) + "0\r\n\r\n", 400},
		"a length in the trailer":    {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n\r\n", 400},
		"a folded trailer":           {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n c\r\n\r\n", 400},
		"a trailer without end":      {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("A: b\r\n", 20<<10), 400},
	} {
		_, _, err := accept(t, tt.text)
		var bad *BadMessage
		if !errors.As(err, &bad) || bad.Status != tt.status {
			t.Errorf("%s: %v; want a refusal with %d", name, err, tt.status)
		}
	}
}

func TestWhatIsInOrderIsTaken(t *testing.T) {
	for name, tt := range map[string]struct{ text, path, host, body string }{
		"plain":             {"GET /a?b=c HTTP/1.1\r\nHost: x:1\r\n\r\n", "/a", "x:1", ""},
		"absolute form":     {"GET HTTP://Y.test:80/a HTTP/1.1\r\nHost: x\r\n\r\n", "/a", "Y.test:80", ""},
		"absolute, no path": {"GET http://y?b HTTP/1.1\r\nHost: x\r\n\r\n", "/", "y", ""},
		"all of the server": {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "*", "x", ""},
		"encoded":           {"GET /%61%2fb HTTP/1.1\r\nHost: x\r\n\r\n", "/a/b", "x", ""},
		"IPv6":              {"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "/", "[::1]:80", ""},
		"an empty host":     {"GET / HTTP/1.1\r\nHost:\r\n\r\n", "/", "", ""},
		"HTTP/1.0":          {"GET / HTTP/1.0\r\n\r\n", "/", "", ""},
		"a CRLF too many":   {"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "/", "x", ""},
		"a length":          {"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc", "/", "x", "abc"},
		"chunks":            {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0A;x=\"y\"\r\n0123456789\r\n00\r\nSum: 1\r\n\r\n", "/", "x", "abc0123456789"},
		"latin in a value":  {"GET / HTTP/1.1\r\nHost: x\r\nA: \xe9\t b\r\n\r\n", "/", "x", ""},
		"space around":      {"GET / HTTP/1.1\r\nHost: \t x \t\r\n\r\n", "/", "x", ""},
	} {
		h, body, err := accept(t, tt.text)
		if err != nil || h.Path != tt.path || h.Host != tt.host || body != tt.body {
			t.Errorf("%s: path %q, host %q, body %q, %v", name, h.Path, h.Host, body, err)
		}
	}
}

// Fields of a list are one, by RFC 9110 section 5.3, and each of its members counts.
func TestListsInSeveralFields(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
	for fields, status := range map[string]int{
		"Expect: x\r\nExpect: 100-continue\r\n": 417,
		"Expect: 100-continue\r\nExpect: x\r\n": 417,
		"Expect: 100-continue\r\nExpect:\r\n":   0,
		"Expect:\r\nExpect: 100-continue\r\n":   0,
	} {
		h, _, err := accept(t, post+fields+"\r\nx")
		var bad *BadMessage
		if errors.As(err, &bad); (bad == nil) != (status == 0) || bad != nil && bad.Status != status || bad == nil && (err != nil || !h.Expect) {
			t.Errorf("%q: %v, expects %t", fields, err, h.Expect)
		}
	}
	for fields, want := range map[string]string{
		"Upgrade: websocket\r\nUpgrade: foo/1\r\n": "websocket, foo/1",
		"Upgrade: WebSocket\r\n":                   "WebSocket",
		// A client that spoke HTTP to the server itself would pass every filter by.
		"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n":                        "",
		"Upgrade: foo, H2C ,HTTP/2.0, TLS/1.2, bar\r\nUpgrade: h2c, h2, \r\n": "foo, bar",
	} {
		h, _, err := accept(t, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n"+fields+"\r\n")
		if err != nil || h.Upgrade != want {
			t.Errorf("%q: %q, %v; want %q", fields, h.Upgrade, err, want)
		}
	}
}

func TestStripHop(t *testing.T) {
	f := NewFields("Connection", "X-One, close, keep-alive, x-TWO", "X-One", "1", "X-Two", "2", "Keep", "3", "TE", "trailers", "Upgrade", "x", "X-one", "4")
	StripHop(f)
	if f.Len() != 1 || f.Get("keep") != "3" {
		t.Errorf("%v", f.list)
	}
}

func TestFields(t *testing.T) {
	f := NewFields("A", "1", "b", "2", "a", "3")
	f.Set("a", "4")
	if f.Len() != 2 || f.Get("A") != "4" {
		t.Errorf("%v", f.list)
	}
	f.Add("B", "5")
	if v := f.Values("b"); len(v) != 2 || v[1] != "5" {
		t.Errorf("%v", v)
	}
	h := make(http.Header)
	f.AddToHTTP(h)
	if g := FromHTTP(h); g.Get("b") != "2" || g.Len() != 3 {
		t.Errorf("%v", g.list)
	}
	c := f.Clone()
	f.Del("B")
	if f.Len() != 1 || c.Len() != 3 {
		t.Errorf("%v %v", f.list, c.list)
	}
	var none *Fields
	if none.Get("x") != "" || none.Len() != 0 || none.Clone() != nil || none.Has("x") {
		t.Error("a nil one is not empty")
	}
	if b := string(appendField(nil, "A", "b\r\nEvil: 1")); strings.Count(b, "\r\n") != 1 {
		t.Errorf("a value breaks out of its line: %q", b)
	}
}
