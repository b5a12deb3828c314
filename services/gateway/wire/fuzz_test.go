package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// FuzzRequestHead compares what is taken with net/http's reading of the same
// bytes: whatever both take must mean the same to both.
func FuzzRequestHead(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /a%2fb?c HTTP/1.1\r\nHost: a:1\r\nContent-Length: 3\r\nConnection: close, x-y\r\nX-Y: 1\r\n\r\n",
		"GET http://a/b HTTP/1.1\r\nHost: c\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n",
		"OPTIONS * HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
		"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := headEnd(b)
		if err != nil || n == 0 {
			return
		}
		h := new(Head)
		if err := h.parse(string(b[:n])); err != nil {
			var bad *BadMessage
			if !errors.As(err, &bad) || bad.Status < 400 || bad.Status > 599 {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b[:n])))
		if err != nil {
			return // we may take what net/http does not, a Host in the old form say
		}
		if r.Method != h.Method || r.Host != h.Host && h.Path != "*" {
			t.Fatalf("%s %q, net/http %s %q", h.Method, h.Host, r.Method, r.Host)
		}
		if r.URL.Path != h.Path && (r.URL.Path != "" || h.Path != "/") && !strings.HasPrefix(h.Target, "//") && h.Path != "*" {
			t.Fatalf("path %q, net/http %q", h.Path, r.URL.Path)
		}
		if r.ContentLength != h.ContentLength {
			t.Fatalf("length %d, net/http %d", h.ContentLength, r.ContentLength)
		}
		for name, value := range h.Header.All() {
			if strings.ContainsAny(value, "\r\n\x00") || !all(name, isToken) {
				t.Fatalf("field %q: %q", name, value)
			}
		}
	})
}

// pieces is a source that gives a few bytes at a time.
type pieces struct {
	b []byte
	n int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.n)], p.b)
	p.b = p.b[n:]
	return n, nil
}

// FuzzChunked reads a body in chunks as it comes, whole and in small pieces:
// both ways must find the same, and what net/http takes too must be the same.
func FuzzChunked(f *testing.F) {
	f.Add([]byte("3\r\nabc\r\n0\r\n\r\n"), uint8(1))
	f.Add([]byte("a;x=y\r\n0123456789\r\n0\r\nSum: 1\r\n\r\nrest"), uint8(3))
	f.Add([]byte("ffffffffff\r\n"), uint8(7))
	f.Add([]byte("0\r\nContent-Length: 1\r\n\r\n"), uint8(2))
	buffers := NewBuffers()
	read := func(b []byte, n int, direct bool) (string, *Fields, error) {
		rd := &reader{src: &pieces{b, n}, buffers: buffers, size: smallBuffer}
		defer rd.drop()
		var d body
		d.reset(rd, byChunks, -1)
		var out bytes.Buffer
		var err error
		if direct {
			p := make([]byte, 8<<10)
			for err == nil {
				var m int
				m, err = d.read(p)
				out.Write(p[:m])
			}
		} else {
			for err == nil {
				var p []byte
				p, _, err = d.next()
				out.Write(p)
			}
		}
		if errors.Is(err, io.EOF) && d.ended() {
			err = nil
		}
		return out.String(), d.trailer, err
	}
	f.Fuzz(func(t *testing.T, b []byte, n uint8) {
		whole, tr, err := read(b, 1<<20, false)
		small, tr2, err2 := read(b, int(n)+1, true)
		if (err == nil) != (err2 == nil) || err == nil && (whole != small || tr.Len() != tr2.Len()) {
			t.Fatalf("whole: %q, %v; in pieces: %q, %v", whole, err, small, err2)
		}
		if err != nil {
			return
		}
		resp, rerr := http.ReadResponse(bufio.NewReader(io.MultiReader(strings.NewReader("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), bytes.NewReader(b))), nil)
		if rerr != nil {
			t.Fatal(rerr)
		}
		if theirs, rerr := io.ReadAll(resp.Body); rerr == nil && string(theirs) != whole {
			t.Fatalf("%q, net/http %q", whole, theirs)
		}
	})
}

// FuzzResponseHead compares what is taken of a server's head with net/http's
// reading.
func FuzzResponseHead(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
		"HTTP/1.0 304 Not Modified\r\nConnection: keep-alive\r\n\r\n",
		"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := headEnd(b)
		if err != nil || n == 0 {
			return
		}
		l, r, resp := &link{}, &Request{Method: http.MethodGet}, new(Response)
		a, err := l.parse(string(b[:n]), r, resp)
		if err != nil || resp.Status < 200 || l.final(r, resp, a) != nil {
			return
		}
		theirs, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b[:n])), nil)
		if err != nil {
			return
		}
		if theirs.StatusCode != resp.Status {
			t.Fatalf("status %d, net/http %d", resp.Status, theirs.StatusCode)
		}
		if BodyAllowed(resp.Status) && theirs.ContentLength != resp.ContentLength {
			t.Fatalf("length %d, net/http %d", resp.ContentLength, theirs.ContentLength)
		}
		for name, value := range resp.Header.All() {
			if strings.ContainsAny(value, "\r\n\x00") || !all(name, isToken) {
				t.Fatalf("field %q: %q", name, value)
			}
		}
	})
}
