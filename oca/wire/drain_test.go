package wire

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"

	"golang.org/x/net/http2"
)

// dialHTTP2 opens a connection with the preface sent.
func dialHTTP2(t *testing.T, addr string) (*tls.Conn, *http2.Framer) {
	t.Helper()
	c := tls.Client(dial(t, addr), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(c, c)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return c, f
}

// until reads frames until one is wanted; an error ends the test.
func until(t *testing.T, f *http2.Framer, wanted func(http2.Frame) bool) http2.Frame {
	t.Helper()
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			t.Fatalf("no such frame: %v", err)
		}
		if wanted(fr) {
			return fr
		}
	}
}

func TestDrainTellsIdleHTTP2ClientsToGo(t *testing.T) {
	r := newRig(t, 10, withTLS(t))
	_, f := dialHTTP2(t, r.addr)
	until(t, f, func(fr http2.Frame) bool { s, ok := fr.(*http2.SettingsFrame); return ok && s.IsAck() })
	r.Drain()
	bye := until(t, f, func(fr http2.Frame) bool { _, ok := fr.(*http2.GoAwayFrame); return ok }).(*http2.GoAwayFrame)
	if bye.ErrCode != http2.ErrCodeNo {
		t.Errorf("GOAWAY says %v", bye.ErrCode)
	}
	r.Await(patience)
	if n := r.Connections(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

// A stream that is under way gets all that was announced, and the wait is over
// when it has.
func TestDrainLetsHTTP2StreamsEnd(t *testing.T) {
	r := newRig(t, 8<<20, withTLS(t)) // more than flow control and buffers take
	c := client(t, true)
	resp, err := c.Get("https://" + r.addr + "/x")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	r.Drain()
	left := make(chan error, 1)
	go func() {
		n, err := io.Copy(io.Discard, resp.Body)
		if err == nil && n != 8<<20 {
			err = io.ErrUnexpectedEOF
		}
		left <- err
	}()
	r.Await(patience)
	if n := r.Connections(); n != 0 {
		t.Errorf("%d connections are left after the wait", n)
	}
	if err := <-left; err != nil {
		t.Errorf("the stream was cut: %v", err)
	}
}

// Who comes while the server drains is served once, by HTTP/1.1.
func TestDrainServesNewcomersByHTTP1(t *testing.T) {
	r := newRig(t, 10, withTLS(t))
	r.Drain()
	resp, err := client(t, true).Get("https://" + r.addr + "/x")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || len(b) != 10 || resp.StatusCode != http.StatusOK || resp.ProtoMajor != 1 || !resp.Close {
		t.Errorf("%s %d, closing: %v, %d bytes, %v", resp.Proto, resp.StatusCode, resp.Close, len(b), err)
	}
}

// What is drained and stopped cuts nobody off, over and over.
func TestStoppedServerCutsNoHTTP2Answer(t *testing.T) {
	for range 20 {
		file, _ := openBody(t, newBody(300_000), nil)
		h := &fixed{file: file}
		c := Config{Handler: h, HeadTimeout: patience, IdleTimeout: patience, StallTimeout: patience, Log: slog.New(slog.DiscardHandler)}
		withTLS(t)(&c)
		s := New(c)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Serve(ctx, l) }()
		resp, err := client(t, true).Get("https://" + l.Addr().String() + "/x")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			s.Drain()
			s.Await(patience)
			stop()
		}()
		if b, err := io.ReadAll(resp.Body); err != nil || len(b) != 300_000 {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		resp.Body.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		file.Release()
	}
}
