package wire

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
)

// handover is the listener through which net/http gets the connections that
// chose HTTP/2.
type handover struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

type connKey struct{}

// http2Conn is a connection in net/http's care. It keeps *tls.Conn's methods
// visible by embedding nothing else.
func (s *Server) newHTTP2() (*http.Server, *handover) {
	h := &handover{conns: make(chan net.Conn), closed: make(chan struct{})}
	srv := &http.Server{
		Handler:           http.HandlerFunc(s.serveHTTP2),
		ReadHeaderTimeout: s.c.HeadTimeout,
		IdleTimeout:       s.c.IdleTimeout,
		MaxHeaderBytes:    MaxHead,
		ErrorLog:          slog.NewLogLogger(s.c.Log.Handler(), slog.LevelDebug),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 100, WriteByteTimeout: s.c.StallTimeout},
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, s.connOf(nc))
		},
		ConnState: func(nc net.Conn, st http.ConnState) {
			if st == http.StateClosed || st == http.StateHijacked {
				if c := s.connOf(nc); c != nil {
					c.tcp.Close()
					s.gone(c)
				}
			}
		},
	}
	return srv, h
}

// connOf finds the connection behind a *tls.Conn.
func (s *Server) connOf(nc net.Conn) *conn {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		if g, ok := t.NetConn().(*gather); ok {
			return g.owner
		}
	}
	return nil
}

// give hands a connection to net/http, or ends it if that has ended.
func (h *handover) give(c *conn) {
	c.out.owner = c
	select {
	case h.conns <- c.tls:
	case <-h.closed:
		c.finish()
	}
}

// Accept implements net.Listener.
func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handover) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr implements net.Listener.
func (h *handover) Addr() net.Addr { return &net.TCPAddr{} }

// serveHTTP2 answers one request of HTTP/2 by the same handler.
func (s *Server) serveHTTP2(w http.ResponseWriter, hr *http.Request) {
	c, _ := hr.Context().Value(connKey{}).(*conn)
	if c == nil {
		http.Error(w, "no connection", http.StatusInternalServerError)
		return
	}
	x, _ := s.spells.Get().(*exchange)
	r, a := &x.r, &x.a
	r.Client, r.TLS = c.client, true
	if m := fromHTTP2(hr, r); m != nil {
		problem(r, a, m)
	} else {
		s.c.Handler.Serve(r, a)
		a.ready(hr.Context(), r)
	}
	h := w.Header()
	h.Set("Server", "flix")
	for _, f := range s.c.Fields {
		h.Set(f.Name, f.Value)
	}
	for f := range a.fieldsOf {
		h.Set(f.Name, f.Value)
	}
	if a.Status == 0 {
		a.Empty(http.StatusInternalServerError)
	}
	if !a.unlengthy {
		h.Set("Content-Length", strconv.FormatInt(a.Length, 10))
	}
	w.WriteHeader(a.Status)
	if !a.bodyless {
		a.Err = s.copyBody(hr.Context(), w, a)
	}
	s.c.Handler.Done(r, a)
	failed := a.Err != nil
	a.reset()
	s.giveBack(x)
	if failed {
		panic(http.ErrAbortHandler) // resets the stream: the client must not take it for whole
	}
}

// fromHTTP2 takes a request over; net/http has checked its form.
func fromHTTP2(hr *http.Request, r *Request) *malformed {
	r.Method, r.Host, r.Major, r.Minor = hr.Method, hr.Host, hr.ProtoMajor, hr.ProtoMinor
	r.Fields = r.fields[:0]
	for name, values := range hr.Header {
		for _, v := range values {
			if len(r.Fields) == MaxFields {
				return &malformed{431, "there are too many header fields"}
			}
			r.Fields = append(r.Fields, Field{name, v})
		}
	}
	return r.parseTarget(hr.RequestURI)
}

// copyBody sends a body through a writer.
func (s *Server) copyBody(ctx context.Context, w http.ResponseWriter, a *Answer) error {
	b, _ := s.batches.Get().(*batch)
	defer s.batches.Put(b)
	emit := func(p []byte) error {
		n, err := w.Write(p)
		a.Sent += int64(n)
		return err
	}
	if a.text != nil {
		return emit(a.text)
	}
	for i, sp := range a.spans {
		if a.tail != "" {
			if err := emit([]byte(a.heads[i])); err != nil {
				return err
			}
		}
		for off, end := sp.off, sp.off+sp.length; off < end; {
			if a.file.grow != nil {
				// The client is to have what has come before more is waited for.
				if err := http.NewResponseController(w).Flush(); err != nil {
					return err
				}
			}
			limit, err := a.file.await(ctx, off)
			if err != nil {
				return err
			}
			n := min(min(limit, end)-off, int64(len(b.plain)))
			if n, err = s.pace(ctx, n); err != nil {
				return err
			}
			if err := readFull(a.file, b.plain[:n], off); err != nil {
				return err
			}
			if err := emit(b.plain[:n]); err != nil {
				return err
			}
			off += n
		}
	}
	if a.tail != "" {
		return emit([]byte(a.tail))
	}
	return nil
}

// pace waits until n bytes, or the fewer that it returns, may go.
func (s *Server) pace(ctx context.Context, n int64) (int64, error) {
	if s.c.Pace == nil {
		return n, nil
	}
	q := s.c.Pace.Quantum()
	if q == 0 {
		return n, nil
	}
	n = min(n, q)
	return n, s.c.Pace.Wait(ctx, n)
}
