package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/flix-lab/flix/services/gateway/wire"
	"github.com/flix-lab/flix/topology"
)

// streamed answers with n bytes, and tells how that ended.
func streamed(n int, ended chan<- error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		piece := make([]byte, 32<<10)
		var err error
		for sent := 0; sent < n && err == nil; sent += len(piece) {
			_, err = w.Write(piece)
		}
		ended <- err
	}
}

// narrow is a client's connection without TLS into which little goes unread.
func (e *edge) narrow(t *testing.T) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", e.plainAddr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	tcp := c.(*net.TCPConn)
	if err := tcp.SetReadBuffer(32 << 10); err != nil {
		t.Fatal(err)
	}
	return tcp
}

// wide begins HTTP/2 on a connection, with windows that never close, and asks.
func wide(t *testing.T, c net.Conn) *http2.Framer {
	t.Helper()
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(c, c)
	if err := f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteWindowUpdate(0, 1<<30); err != nil {
		t.Fatal(err)
	}
	writeHead(t, f, true, ":method", "GET", ":scheme", "http", ":authority", edgeHost, ":path", "/signup/x")
	return f
}

// A client that is slow gets its answer whole, as long as it reads at all.
func TestSlowReaderGetsTheWhole(t *testing.T) {
	const (
		size  = 6 << 20
		limit = 500 * time.Millisecond
		piece = 16 << 10 // every 10 ms: less in the limit than the kernel wants free of its own accord
	)
	for name, ask := range map[string]func(*testing.T, net.Conn) func() (int64, error){
		"HTTP/1.1": func(t *testing.T, c net.Conn) func() (int64, error) {
			r := &http.Transport{DisableKeepAlives: true, ReadBufferSize: piece, DialContext: func(context.Context, string, string) (net.Conn, error) { return c, nil }}
			resp, err := (&http.Client{Transport: r}).Get("http://" + edgeHost + "/signup/x")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = resp.Body.Close() })
			return func() (int64, error) { return io.CopyN(io.Discard, resp.Body, piece) }
		},
		"HTTP/2": func(t *testing.T, c net.Conn) func() (int64, error) {
			f := wide(t, c)
			return func() (int64, error) {
				fr, err := f.ReadFrame()
				d, ok := fr.(*http2.DataFrame)
				if err == nil && ok && d.StreamEnded() {
					err = io.EOF
				}
				if !ok {
					return 0, err
				}
				return int64(len(d.Data())), err
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newWorld(t).bounded("us-east", func(l *wire.Limits) { l.Write = limit })
			e.api("signup", "us-east/a/signup/1", streamed(size, make(chan error, 1)))
			next := ask(t, e.narrow(t))
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			got, n, err := int64(0), int64(0), error(nil)
			for ; err == nil; got += n {
				<-tick.C
				n, err = next()
			}
			if got != size {
				t.Errorf("%d of %d bytes, %v", got, size, err)
			}
		})
	}
}

// A client that has ended its sending gets a large answer whole, too, however long
// it takes: that it reads says that it is there.
func TestHalfClosedReaderGetsTheWhole(t *testing.T) {
	const size, piece = 4 << 20, 64 << 10
	e := newWorld(t).gateway("us-east", func(d *Deps) { d.Timing.RPCTimeout = topology.Duration(200 * time.Millisecond) }) // half of it is the grace
	e.api("signup", "us-east/a/signup/1", streamed(size, make(chan error, 1)))
	c := e.narrow(t)
	if _, err := io.WriteString(c, plainGet); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	got := int64(0)
	for n := int64(0); err == nil; got += n {
		<-tick.C
		n, err = io.CopyN(io.Discard, resp.Body, piece)
	}
	if got != size {
		t.Errorf("%d of %d bytes, %v", got, size, err)
	}
}

// A client that takes nothing is let go, whatever it says meanwhile: its requests
// hold servers.
func TestClientThatTakesNothing(t *testing.T) {
	e := newWorld(t).bounded("us-east", func(l *wire.Limits) { l.Write = 200 * time.Millisecond })
	ended := make(chan error, 1)
	e.api("signup", "us-east/a/signup/1", streamed(1<<30, ended))
	f := wide(t, e.narrow(t))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for over := time.After(patience / 4); ; {
		select {
		case err := <-ended:
			if err == nil {
				t.Error("the whole answer went somewhere")
			}
			return
		case <-over:
			t.Fatal("a client that takes nothing is waited for")
		case <-tick.C:
			_ = f.WriteWindowUpdate(0, 1) // it fails once the connection has ended
		}
	}
}

// A server that reads an upload slowly has its time for the answer from the last
// piece on, and for each piece before.
func TestSlowServerTakesTheWhole(t *testing.T) {
	const size, limit, piece = 6 << 20, 500 * time.Millisecond, 16 << 10
	e := newWorld(t).gateway("us-east")
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		got, err := int64(0), error(nil)
		for n := int64(0); err == nil; got += n {
			<-tick.C
			n, err = io.CopyN(io.Discard, r.Body, piece)
		}
		_, _ = fmt.Fprint(w, got)
	}))
	srv.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if err := c.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
			t.Error(err)
		}
		return ctx
	}
	srv.Start()
	defer srv.Close()
	now := time.Now()
	var resp wire.Response
	err := e.transports.origin.Send(t.Context(), &wire.Request{
		Addr: srv.Listener.Addr().String(), Method: "PUT", Target: "/", Host: "h", Header: NewHeader(), Over: NewHeader(),
		Body: io.NopCloser(io.LimitReader(zeros{}, size)), ContentLength: size, Start: now, Deadline: now.Add(limit),
	}, &resp)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != strconv.Itoa(size) {
		t.Errorf("the server had %q, %v", b, err)
	}
	_ = resp.Body.Close()
}
