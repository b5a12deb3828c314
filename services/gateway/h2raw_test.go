package gateway

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/gateway/wire"
)

// framer opens a connection that speaks HTTP/2 frame by frame: a client
// library hides them, and says nothing that is no request.
func (e *edge) framer(t *testing.T) *http2.Framer {
	t.Helper()
	raw, err := dialAs(t.Context(), e.addr, eastClient)
	if err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(raw, &tls.Config{RootCAs: e.w.roots, ServerName: edgeHost, NextProtos: []string{"h2"}})
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(conn, conn)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return f
}

// writeHead begins stream 1 with a head of name, value pairs.
func writeHead(t *testing.T, f *http2.Framer, end bool, fields ...string) {
	t.Helper()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for k := 0; k < len(fields); k += 2 {
		if err := enc.WriteField(hpack.HeaderField{Name: fields[k], Value: fields[k+1]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: end, EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
}

// readAnswer reads the answer of stream 1.
func readAnswer(t *testing.T, f *http2.Framer) (status int, body string) {
	t.Helper()
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		ended := false
		switch fr := fr.(type) {
		case *http2.MetaHeadersFrame:
			if status, err = strconv.Atoi(fr.PseudoValue("status")); err != nil {
				t.Fatal(err)
			}
			ended = fr.StreamEnded()
		case *http2.DataFrame:
			body += string(fr.Data())
			ended = fr.StreamEnded()
		case *http2.RSTStreamFrame:
			t.Fatalf("the stream is reset: %v", fr.ErrCode)
		}
		if ended {
			return status, body
		}
	}
}

// What HTTP/2 can say and HTTP/1.1 cannot is refused: written to a server, it
// would be another request than the one that the filters let through.
func TestHTTP2SaysNoOtherRequest(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	asked := e.counting("a", "us-east/a/signup/1", echo("signup"))
	for name, tt := range map[string]struct {
		method, authority, path string
		more                    []string
		status                  int
	}{
		"a request line as the method":    {"GET /play HTTP/1.1", edgeHost, "/signup/x", nil, 400},
		"a method that is no token":       {"G(T", edgeHost, "/signup/x", nil, 400},
		"a request line as the query":     {"GET", edgeHost, "/signup/x?a HTTP/1.1", nil, 400},
		"a fragment":                      {"GET", edgeHost, "/signup/x?a#b", nil, 400},
		"an absolute target":              {"GET", edgeHost, "http://elsewhere/signup/x", nil, 400},
		"an authority with a space":       {"GET", "a b", "/signup/x", nil, 400},
		"a Host other than the authority": {"GET", edgeHost, "/signup/x", []string{"host", "elsewhere"}, 400},
		"a length without a body":         {"POST", edgeHost, "/signup/x", []string{"content-length", "3"}, 400},
		"a length that is none":           {"POST", edgeHost, "/signup/x", []string{"content-length", "x"}, 400},
		"two lengths":                     {"POST", edgeHost, "/signup/x", []string{"content-length", "0", "content-length", "0"}, 400},
		"a tunnel":                        {"CONNECT", edgeHost, "", nil, 405},
		"an unknown Expect":               {"GET", edgeHost, "/signup/x", []string{"expect", "200-ok"}, 417},
	} {
		t.Run(name, func(t *testing.T) {
			f := e.framer(t)
			fields := []string{":method", tt.method, ":authority", tt.authority}
			if tt.path != "" {
				fields = append(fields, ":scheme", "https", ":path", tt.path)
			}
			writeHead(t, f, true, append(fields, tt.more...)...)
			status, body := readAnswer(t, f)
			var p services.Problem
			if err := json.Unmarshal([]byte(body), &p); err != nil || status != tt.status || p.Reason != ReasonMalformed {
				t.Errorf("status %d, %q; want %d, %s", status, body, tt.status, ReasonMalformed)
			}
		})
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the API saw %d of them", n)
	}
}

// A client that is still sending when it is refused gets its answer whole: its
// stream is not reset as long as it sends.
func TestRefusedWhileSendingOverHTTP2(t *testing.T) {
	e := newWorld(t).bounded("us-east", func(l *wire.Limits) { l.Linger = patience })
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	e.set(PropertyMaxBody, "10")
	t.Run("no route", func(t *testing.T) { refusedWhileSending(t, e, "/nowhere", "", "404", ReasonNoRoute) })
	t.Run("too long", func(t *testing.T) {
		refusedWhileSending(t, e, "/signup/x", "more than ten bytes", "413", ReasonTooLarge)
	})
}

// refusedWhileSending begins a request with a part of its body, and sends the rest
// once it has the answer.
func refusedWhileSending(t *testing.T, e *edge, path, begin, status, reason string) {
	f := e.framer(t)
	writeHead(t, f, false, ":method", "POST", ":scheme", "https", ":authority", edgeHost, ":path", path)
	if err := f.WriteData(1, false, []byte(begin)); err != nil {
		t.Fatal(err)
	}
	body := ""
	for sent := false; ; {
		fr, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch fr := fr.(type) {
		case *http2.MetaHeadersFrame:
			if got := fr.PseudoValue("status"); got != status {
				t.Errorf("status %s", got)
			}
		case *http2.RSTStreamFrame:
			t.Fatalf("the stream is reset: %v", fr.ErrCode)
		case *http2.DataFrame:
			body += string(fr.Data())
			if fr.StreamEnded() {
				var p services.Problem
				if err := json.Unmarshal([]byte(body), &p); err != nil || p.Reason != reason || !sent {
					t.Errorf("%q, the client had ended: %t", body, sent)
				}
				return
			}
			if json.Valid([]byte(body)) && !sent {
				sent = true
				for k := range 3 {
					if err := f.WriteData(1, k == 2, []byte("more")); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
}

// A header that is too long is refused alone: the other requests of its
// connection go on, and what was compressed with it is still understood.
func TestLongHeaderOverHTTP2(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	c := e.client(eastClient, true)
	reused := false
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }})
	for n, want := range []int{200, 431, 431, 431, 200} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+edgeHost+"/signup/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		switch n {
		case 1: // one value
			req.Header.Set("X-Large", strings.Repeat("a", 70<<10))
		case 2: // one of three times what is taken
			req.Header.Set("X-Large", strings.Repeat("b", 3*maxHeaderBytes))
		case 3: // many small ones
			for k := range 1000 {
				req.Header.Add("X-Many", itoa(k)+strings.Repeat("c", 80))
			}
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatalf("request %d: %v", n, err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != want || reused != (n > 0) {
			t.Errorf("request %d: %s, on the connection of those before: %t, %v", n, resp.Status, reused, err)
		}
		if p := (answer{Response: resp, body: string(b)}); want == 431 && p.problem(t).Reason != ReasonMalformed {
			t.Errorf("request %d: %s", n, b)
		}
	}
}

// A Host field beside the authority names the same: a server sees one.
func TestHTTP2NamesOneHost(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	hosts := make(chan []string, 1)
	e.registry.add("signup", "us-east/a/signup/1", "a", origin(t, func(c net.Conn, r *bufio.Reader) {
		var seen []string
		for {
			line, err := r.ReadString('\n')
			if err != nil || line == "\r\n" {
				break
			}
			if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "Host") {
				seen = append(seen, strings.TrimSpace(value))
			}
		}
		hosts <- seen
		_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
	}))
	f := e.framer(t)
	writeHead(t, f, true, ":method", "GET", ":scheme", "https", ":authority", edgeHost, ":path", "/signup/x", "host", strings.ToUpper(edgeHost))
	if status, _ := readAnswer(t, f); status != http.StatusNoContent {
		t.Errorf("status %d", status)
	}
	if seen := <-hosts; len(seen) != 1 || seen[0] != edgeHost {
		t.Errorf("the server saw the hosts %q", seen)
	}
}

// A body that ends before its announced length is malformed, not slow.
func TestHTTP2BodyShorterThanItsLength(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	f := e.framer(t)
	writeHead(t, f, false, ":method", "POST", ":scheme", "https", ":authority", edgeHost, ":path", "/signup/x", "content-length", "5")
	if err := f.WriteData(1, true, []byte("abc")); err != nil {
		t.Fatal(err)
	}
	status, body := readAnswer(t, f)
	var p services.Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil || status != 400 || p.Reason != ReasonMalformed {
		t.Errorf("status %d, %q", status, body)
	}
}

// A gateway that takes no requests any more says so in HTTP/2, too.
func TestEndingOverHTTP2(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	f := e.framer(t)
	e.Server.gate.shut()
	writeHead(t, f, true, ":method", "GET", ":scheme", "https", ":authority", edgeHost, ":path", "/signup/x")
	status, body := readAnswer(t, f)
	var p services.Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil || status != 503 || p.Remedy == "" {
		t.Errorf("status %d, %q", status, body)
	}
}
