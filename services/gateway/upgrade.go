package gateway

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/flix-lab/flix/services/gateway/wire"
)

// switchProtocols hands the client's connection over to the upstream's after
// both agreed on another protocol (WebSocket, say), and carries bytes until
// both sides are done or the gateway ends.
func (s *Server) switchProtocols(c *wire.Conn, ex *Exchange) {
	up := ex.Response.Upgraded
	defer up.Close()
	conn, buffered := c.Hijack()
	defer conn.Close()
	end := func() { _ = conn.Close(); _ = up.Close() }
	defer context.AfterFunc(ex.ctx, end)()
	if err := writeSwitching(conn, ex); err != nil {
		return
	}
	// A side that has ended its sending waits for the other so long only.
	var half *time.Timer
	var once sync.Once
	oneEnded := func() { once.Do(func() { half = time.AfterFunc(s.d.Timing.MaxConnectionAge.D(), end) }) }
	var wg sync.WaitGroup
	wg.Go(func() {
		defer oneEnded()
		// What the client sent early is still in the codec's buffer.
		s.carry(up, up, io.MultiReader(bytes.NewReader(buffered), conn), conn)
	})
	s.carry(conn, conn, up, up)
	oneEnded()
	wg.Wait()
	half.Stop()
}

func writeSwitching(conn net.Conn, ex *Exchange) error {
	h := make(http.Header)
	ex.Response.Header.AddToHTTP(h)
	h.Set("Connection", "Upgrade")
	b := bufio.NewWriter(conn)
	_, _ = b.WriteString("HTTP/1.1 101 Switching Protocols\r\n") // bufio keeps the first error for Flush
	_ = h.Write(b)
	_, _ = b.WriteString("\r\n")
	return b.Flush()
}

// carry copies one way and passes the end on as a half-close where the
// connection can; else it ends both.
func (s *Server) carry(dst io.Writer, dstConn io.Closer, src io.Reader, srcConn io.Closer) {
	buf := s.copies.Get().(*[]byte)
	defer s.copies.Put(buf)
	_, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, *buf)
	if err == nil {
		if hc, ok := dstConn.(interface{ CloseWrite() error }); ok && hc.CloseWrite() == nil {
			return
		}
	}
	_ = dstConn.Close()
	_ = srcConn.Close()
}
