package gateway

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// trailed is what a server of HTTP/1.1 saw of a request with a trailer.
type trailed struct {
	announced, body string
	chunked         bool
	trailer         http.Header
}

// trailedAPI tells what it saw, answers the first few requests with 503, and the
// others with 200.
func trailedAPI(t *testing.T, e *edge, unwilling int64) chan trailed {
	saw := make(chan trailed, 8)
	var n atomic.Int64
	for _, id := range []string{"us-east/a/signup/1", "us-east/a/signup/2"} {
		e.registry.add("signup", id, "a", origin(t, func(c net.Conn, r *bufio.Reader) {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			s := trailed{announced: strings.Join(sortedNames(req.Trailer), ","), chunked: slices.Contains(req.TransferEncoding, "chunked")}
			b, err := io.ReadAll(req.Body)
			if err != nil {
				t.Error(err)
			}
			s.body, s.trailer = string(b), req.Trailer
			status := "200 OK"
			if n.Add(1) <= unwilling {
				status = "503 Busy"
			} else {
				saw <- s
			}
			_, _ = io.WriteString(c, "HTTP/1.1 "+status+"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		}))
	}
	return saw
}

func sortedNames(h http.Header) (names []string) {
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// A request's trailer reaches a server of HTTP/1.1, whatever the client speaks,
// whether it says how long its body is, and on another try, too.
func TestRequestTrailers(t *testing.T) {
	const body = "five!"
	for _, tt := range []struct {
		name      string
		h2, known bool
		body      string
		unwilling int64
	}{
		{"HTTP/1.1", false, false, body, 0},
		{"HTTP/1.1, the second server", false, false, body, 1},
		{"HTTP/2", true, false, body, 0},
		{"HTTP/2, of known length", true, true, body, 0},
		{"HTTP/2, of known length, the second server", true, true, body, 1},
		{"HTTP/2, after no body", true, true, "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newWorld(t).gateway("us-east")
			saw := trailedAPI(t, e, tt.unwilling)
			if tt.h2 {
				f := e.framer(t)
				head := []string{":method", "PUT", ":scheme", "https", ":authority", edgeHost, ":path", "/signup/x", "trailer", "x-sum, x-flix-member"}
				if tt.known {
					head = append(head, "content-length", itoa(len(tt.body)))
				}
				writeHead(t, f, false, head...)
				if tt.body != "" {
					if err := f.WriteData(1, false, []byte(tt.body)); err != nil {
						t.Fatal(err)
					}
				}
				writeHead(t, f, true, "x-sum", "42", "x-flix-member", "victim")
				if status, got := readAnswer(t, f); status != http.StatusOK {
					t.Fatalf("status %d, %q", status, got)
				}
			} else {
				c := e.raw(t)
				c.send("PUT /signup/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, x-flix-member, Content-Length\r\n\r\n5\r\n%s\r\n0\r\nX-Sum: 42\r\nX-Flix-Member: victim\r\n\r\n", tt.body)
				if resp, got := c.answer("PUT"); resp.StatusCode != http.StatusOK {
					t.Fatalf("%s, %q", resp.Status, got)
				}
			}
			got := <-saw
			if got.body != tt.body || !got.chunked || got.announced != "X-Sum" || len(got.trailer) != 1 || got.trailer.Get("X-Sum") != "42" {
				t.Errorf("the server saw %+v", got)
			}
		})
	}
}

// What must stand before a body is not passed on behind it.
func TestFieldsThatDoNotTrail(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	saw := trailedAPI(t, e, 0)
	c := e.raw(t)
	c.send("PUT /signup/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfive!\r\n0\r\n" +
		"Authorization: Bearer x\r\nCookie: a=b\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\nRange: bytes=0-1\r\n" +
		"If-Match: \"x\"\r\nCache-Control: no-cache\r\nTE: gzip\r\nX-Forwarded-For: 1.2.3.4\r\nX_Flix_Member: victim\r\nX-Sum: 42\r\n\r\n")
	if resp, got := c.answer("PUT"); resp.StatusCode != http.StatusOK {
		t.Fatalf("%s, %q", resp.Status, got)
	}
	if got := <-saw; len(got.trailer) != 1 || got.trailer.Get("X-Sum") != "42" {
		t.Errorf("the server saw %+v", got)
	}
}

// A trailer goes through another region's gateway, which speaks HTTP/2.
func TestRequestTrailersCrossRegions(t *testing.T) {
	w := newWorld(t)
	saver, e := w.gateway("us-west"), w.gateway("us-east")
	saw := trailedAPI(t, saver, 0)
	e.set(PropertyEvacuate, `{"share":1,"savers":["us-west"]}`)
	c := e.raw(t)
	c.send("PUT /signup/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nfive!\r\n0\r\nX-Sum: 42\r\n\r\n")
	if resp, got := c.answer("PUT"); resp.StatusCode != http.StatusOK || resp.Header.Get("X-Flix-Region") != "us-west" {
		t.Fatalf("%s, %q", resp.Status, got)
	}
	if got := <-saw; got.body != "five!" || got.trailer.Get("X-Sum") != "42" {
		t.Errorf("the server saw %+v", got)
	}
}
