package wire

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

// What two readers could read in two ways is refused, and the connection is
// closed, so that nothing after it is taken for a request.
func TestMalformedRequestsEndTheConnection(t *testing.T) {
	r := newRig(t, 10, nil)
	const host = "Host: a\r\n"
	for _, q := range []struct {
		text   string
		status int
	}{
		{"GET / HTTP/1.1\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
		{"GET / HTTP/1.1\nHost: a\n\n", 400},
		{"GET / HTTP/1.1\r\nHost: a\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" + host + "X : y\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" + host + " folded\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" + host + "X: a\r\n\tb\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" + host + "X\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" + host + ": y\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" + host + "X: a\x00b\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" + host + "X: a\rb\r\n\r\n", 400},
		{"GET  / HTTP/1.1\r\n" + host + "\r\n", 400},
		{"GET /\r\n\r\n", 400},
		{"GET / HTTP/1.1 \r\n" + host + "\r\n", 400},
		{"GET / http/1.1\r\n" + host + "\r\n", 400},
		{"GET / HTTP/11\r\n" + host + "\r\n", 400},
		{"GET / HTTP/2.0\r\n" + host + "\r\n", 505},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
		{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", 400},
		{"GET x HTTP/1.1\r\n" + host + "\r\n", 400},
		{"GET * HTTP/1.1\r\n" + host + "\r\n", 400},
		{"GET /%zz HTTP/1.1\r\n" + host + "\r\n", 400},
		{"GET /%0 HTTP/1.1\r\n" + host + "\r\n", 400},
		{"GET /%00 HTTP/1.1\r\n" + host + "\r\n", 400},
		{"GET /a#b HTTP/1.1\r\n" + host + "\r\n", 400},
		{"GET ftp://a/ HTTP/1.1\r\n" + host + "\r\n", 400},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: +3\r\n\r\nabc", 400},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: 3, 3\r\n\r\nabc", 400},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: -1\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length:\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
		{"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501},
		{"POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501},
		// No error, but the body is not read: the connection has to go.
		{"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\n\r\n", 405},
		{"GET / HTTP/1.1\r\n" + host + "Content-Length: 9999999\r\n\r\nGET / HTTP/1.1\r\n\r\n", 200},
		{"GET / HTTP/1.1\r\n" + host + "Content-Length: 4\r\nExpect: 100-continue\r\n\r\n", 200},
		{"CONNECT a:1 HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n", 405},
		{"GET /" + strings.Repeat("a", maxTarget) + " HTTP/1.1\r\n" + host + "\r\n", 414},
		{"GET / HTTP/1.1\r\n" + host + "X: " + strings.Repeat("a", MaxHead) + "\r\n\r\n", 431},
		{"GET / HTTP/1.1\r\n" + host + strings.Repeat("X: a\r\n", MaxFields) + "\r\n", 431},
	} {
		c := dial(t, r.addr)
		br := bufio.NewReader(c)
		resp, _ := raw(t, c, br, q.text)
		if resp.StatusCode != q.status || !resp.Close && resp.Header.Get("Connection") != "close" {
			t.Errorf("%.80q: %s, close %v, want %d", q.text, resp.Status, resp.Close, q.status)
		}
		closed(t, br)
		c.Close()
	}
}

func TestKeptConnections(t *testing.T) {
	r := newRig(t, 100_000, nil)
	c := dial(t, r.addr)
	br := bufio.NewReader(c)
	get := func(extra string) string { return "GET /v HTTP/1.1\r\nHost: a\r\n" + extra + "\r\n" }
	// Pipelined, with line ends between and a body that is skipped.
	text := get("Range: bytes=0-9\r\n") + "\r\n" + get("Content-Length: 5\r\n") + "12345" + "HEAD /v HTTP/1.1\r\nHost: a\r\n\r\n" + get("Range: bytes=-5\r\n") + "GET http://other.test:80/v?x=1 HTTP/1.1\r\nHost: a\r\n\r\n" + "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		method string
		status int
		body   []byte
	}{{"GET", 206, r.body[:10]}, {"GET", 200, r.body}, {"HEAD", 200, nil}, {"GET", 206, r.body[99_995:]}, {"GET", 200, r.body}, {"OPTIONS", 204, nil}} {
		resp, body := readAnswer(t, br, want.method)
		if resp.StatusCode != want.status || !bytes.Equal(body, want.body) || resp.Close {
			t.Fatalf("answer %d: %s, %d bytes, close %v", i, resp.Status, len(body), resp.Close)
		}
	}
	// Byte by byte.
	for _, b := range []byte(get("Range: bytes=1-2\r\n")) {
		if _, err := c.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if resp, body := readAnswer(t, br, "GET"); resp.StatusCode != 206 || !bytes.Equal(body, r.body[1:3]) {
		t.Errorf("byte by byte: %s", resp.Status)
	}
	// A head larger than the first buffer.
	if resp, _ := raw(t, c, br, get("X: "+strings.Repeat("x", 12<<10)+"\r\n")); resp.StatusCode != 200 {
		t.Errorf("a large head: %s", resp.Status)
	}
	if resp, _ := raw(t, c, br, get("Connection: Close\r\n")); resp.StatusCode != 200 || !resp.Close {
		t.Errorf("close: %s, %v", resp.Status, resp.Close)
	}
	closed(t, br)
}

func TestHTTP10(t *testing.T) {
	r := newRig(t, 1000, nil)
	c := dial(t, r.addr)
	br := bufio.NewReader(c)
	if resp, body := raw(t, c, br, "GET /v HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"); resp.StatusCode != 200 || !bytes.Equal(body, r.body) || resp.Header.Get("Connection") != "keep-alive" {
		t.Errorf("keep-alive: %s %v", resp.Status, resp.Header)
	}
	if resp, body := raw(t, c, br, "GET /v HTTP/1.0\r\n\r\n"); resp.StatusCode != 200 || !bytes.Equal(body, r.body) {
		t.Errorf("%s %v", resp.Status, resp.Header)
	}
	closed(t, br)
}

// A file that shrinks while it is sent must not leave a client waiting for
// bytes, or taking the next answer for them.
func TestTruncatedFileEndsTheConnection(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("TLS ", secure), func(t *testing.T) {
			change := func(*Config) {}
			if secure {
				change = withTLS(t)
			}
			r := newRig(t, 64<<20, change) // more than the sockets' buffers
			c := client(t, false)
			scheme := "http://"
			if secure {
				scheme = "https://"
			}
			resp, err := c.Get(scheme + r.addr + "/v")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if err := os.Truncate(r.path, 1<<20); err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, resp.Body)
			if err == nil || n >= 64<<20 {
				t.Errorf("%d bytes, %v: the answer ended as if it were whole", n, err)
			}
			eventually(t, func() string {
				if a := r.answers(); len(a) != 1 || a[0].Err == nil {
					return fmt.Sprint(a)
				}
				return ""
			})
		})
	}
}

func TestSpoiledFileBreaksOff(t *testing.T) {
	r := newRig(t, 64<<20, nil)
	resp, err := client(t, false).Get("http://" + r.addr + "/v")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	r.file.Spoil()
	if n, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Errorf("%d bytes of a file found damaged were sent to the end", n)
	}
}

func TestDeadlines(t *testing.T) {
	r := newRig(t, 64<<20, func(c *Config) {
		c.HeadTimeout, c.IdleTimeout, c.StallTimeout = 2*tickEvery, 6*tickEvery, 2*tickEvery
	})
	// A head that never ends.
	slow := dial(t, r.addr)
	if resp, _ := raw(t, slow, bufio.NewReader(slow), "GET / HTTP/1.1\r\nHost:"); resp.StatusCode != 408 {
		t.Errorf("a slow head: %s", resp.Status)
	}
	// A connection that is not used, even once it has been parked.
	idle := dial(t, r.addr)
	br := bufio.NewReader(idle)
	if resp, _ := raw(t, idle, br, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
	closed(t, br)
	// A client that does not read.
	if _, err := io.WriteString(dial(t, r.addr), "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		for _, a := range r.answers() {
			if a.Err != nil && a.Status == 200 {
				return ""
			}
		}
		return "a client that reads nothing is waited for"
	})
	eventually(t, func() string {
		if n := r.Connections(); n != 0 {
			return fmt.Sprintf("%d connections", n)
		}
		return ""
	})
	// The clock rests while nobody is connected, and then goes on: the second
	// client of a while is cut off like the first.
	stood := r.tick.Load()
	eventually(t, func() string {
		select {
		case <-time.After(2 * tickEvery):
		case <-t.Context().Done():
		}
		was := stood
		if stood = r.tick.Load(); stood != was {
			return "the clock ticks for nobody"
		}
		return ""
	})
	late := dial(t, r.addr)
	if resp, _ := raw(t, late, bufio.NewReader(late), "GET / HTTP/1.1\r\nHost:"); resp.StatusCode != 408 {
		t.Errorf("a slow head after a rest: %s", resp.Status)
	}
}

// A client of TLS that does not read holds an answer up no longer than one
// without.
func TestStalledTLSClientIsLeft(t *testing.T) {
	secure := withTLS(t)
	r := newRig(t, 64<<20, func(c *Config) {
		secure(c)
		c.StallTimeout = 2 * tickEvery
	})
	c := tls.Client(dial(t, r.addr), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the rig's own certificate
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if a := r.answers(); len(a) != 1 || a[0].Err == nil || a[0].Sent >= 64<<20 {
			return fmt.Sprintf("answers: %+v", a)
		}
		if n := r.Connections(); n != 0 {
			return fmt.Sprintf("%d connections", n)
		}
		return ""
	})
}

// A parked connection goes on as if nothing had been.
func TestParkedConnectionsAnswer(t *testing.T) {
	for _, secure := range []bool{false, true} {
		change := func(*Config) {}
		if secure {
			change = withTLS(t)
		}
		r := newRig(t, 1000, change)
		c := client(t, false)
		scheme := "http://"
		if secure {
			scheme = "https://"
		}
		for range 2 {
			if resp, body := fetch(t, c, "GET", scheme+r.addr+"/v"); resp.StatusCode != 200 || !bytes.Equal(body, r.body) {
				t.Fatal(resp.Status)
			}
			eventually(t, func() string {
				parked := 0
				r.each(func(c *conn) {
					if c.parked.Load() {
						parked++
					}
				})
				if parked != 1 || r.Connections() != 1 {
					return fmt.Sprintf("%d of %d connections are parked", parked, r.Connections())
				}
				return ""
			})
		}
	}
}

func TestDrainEndsConnections(t *testing.T) {
	r := newRig(t, 10, nil)
	c := dial(t, r.addr)
	br := bufio.NewReader(c)
	raw(t, c, br, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	r.Drain()
	closed(t, br)
	late := dial(t, r.addr)
	lbr := bufio.NewReader(late)
	if resp, _ := raw(t, late, lbr, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); resp.StatusCode != 200 || !resp.Close {
		t.Errorf("after Drain: %s, close %v", resp.Status, resp.Close)
	}
	closed(t, lbr)
}

func TestProxyHeader(t *testing.T) {
	seen := make(chan netip.AddrPort, 1)
	r := newRig(t, 10, func(c *Config) {
		c.Proxy = func(a netip.Addr) bool { return a.IsLoopback() }
		c.Handler = watcher{c.Handler, seen}
	})
	for _, from := range []string{"198.18.0.7:1234", "[2001:db8::7]:99"} {
		c := dial(t, r.addr)
		src := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from))
		dst := &net.TCPAddr{IP: net.ParseIP("198.18.0.1"), Port: 443}
		if src.IP.To4() == nil {
			dst.IP = net.ParseIP("2001:db8::1")
		}
		h := proxyproto.HeaderProxyFromAddrs(2, src, dst)
		b, err := h.Format()
		if err != nil {
			t.Fatal(err)
		}
		// In one segment with the request: not a byte of that may be lost.
		if resp, _ := raw(t, c, bufio.NewReader(c), string(b)+"GET / HTTP/1.1\r\nHost: a\r\n\r\n"); resp.StatusCode != 200 {
			t.Error(resp.Status)
		}
		if got := <-seen; got.String() != from {
			t.Errorf("client %v, want %s", got, from)
		}
	}
	for _, text := range []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "PROXY TCP4 198.18.0.7 127.0.0.1 4321 443\r\n", proxyMagic + "\x21\x11\xff\xff", proxyMagic + "\x21\x11\x00\x01\x00"} {
		c := dial(t, r.addr)
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		closed(t, bufio.NewReader(c))
	}
}

type watcher struct {
	Handler
	seen chan netip.AddrPort
}

func (w watcher) Serve(r *Request, a *Answer) {
	w.seen <- r.Client
	w.Handler.Serve(r, a)
}
