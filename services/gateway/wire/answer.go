package wire

import (
	"io"
	"net/http"
	"strconv"
	"time"
)

// statusLines are the lines of usual statuses, made once.
var statusLines = func() (t [600]string) {
	for s := 100; s < 600; s++ {
		t[s] = "HTTP/1.1 " + strconv.Itoa(s) + " " + http.StatusText(s) + "\r\n"
	}
	return t
}()

func appendStatus(dst []byte, status int) []byte {
	if status >= 100 && status < len(statusLines) {
		return append(dst, statusLines[status]...)
	}
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	return append(dst, " \r\n"...)
}

// BodyAllowed says whether an answer of a status may have a body, by RFC 9110
// section 6.4.1.
func BodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// Begin starts the final answer; it goes out with the first piece of the body
// or with End. length is -1 if it is not known. Fields of h about the hop or
// the framing are not sent: they are made here.
func (c *Conn) Begin(status int, h *Fields, length int64, closing bool) {
	c.mu.Lock()
	c.final = true
	continued := c.continued
	c.mu.Unlock()
	c.closing = c.closing || closing
	if !c.body.settled() {
		// The client may still be at it when the answer is whole: only what
		// is known now can be said in the header. A client that waits for
		// leave and gets an answer instead cannot tell whether to send.
		c.closing = c.closing || !continued
	}
	c.status, c.left, c.started = status, length, true
	c.bodyless = c.head.Method == http.MethodHead || !BodyAllowed(status)
	if c.out == nil {
		c.out = c.in.buffers.get(smallBuffer)
	}
	b := appendStatus(c.out[:0], status)
	b = appendFields(b, h, framed)
	switch {
	case !BodyAllowed(status) && status != http.StatusNotModified:
	case length > 0, length == 0 && status != http.StatusNotModified:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, length, 10)
		b = append(b, '\r', '\n')
	case c.bodyless:
	case c.head.minor == 1:
		c.chunked = true
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	default:
		c.closing = true // its end is the body's
	}
	switch {
	case c.closing:
		b = append(b, "Connection: close\r\n"...)
	case c.head.minor == 0:
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	c.out = append(b, '\r', '\n')
}

// framed names the fields that Begin makes itself.
func framed(name string) bool {
	return isHop(name) || len(name) == 14 && SameName(name, "Content-Length")
}

// Bodyless says that the answer has no body, whatever its length.
func (c *Conn) Bodyless() bool { return c.bodyless }

// Write sends a piece of the answer's body; flush sends it now, else it may
// wait for the next one if it is small.
func (c *Conn) Write(p []byte, flush bool) error {
	if c.bodyless || len(p) == 0 {
		if flush {
			return c.flush()
		}
		return nil
	}
	if c.left >= 0 {
		if int64(len(p)) > c.left {
			c.broken = true
			return io.ErrShortWrite // more than was announced: never sent
		}
		c.left -= int64(len(p))
	}
	if c.chunked {
		c.out = appendChunk(c.out, len(p))
	}
	if len(c.out)+len(p)+2 <= cap(c.out) {
		c.out = append(c.out, p...)
		if c.chunked {
			c.out = append(c.out, '\r', '\n')
		}
		if flush {
			return c.flush()
		}
		return nil
	}
	return c.writeThrough(p)
}

// writeThrough sends what is pending and a large piece, in one go where the
// connection can.
func (c *Conn) writeThrough(p []byte) error {
	c.armWrite(time.Now())
	c.writes.Add(1)
	defer c.writes.Add(1)
	var err error
	if c.sock != nil {
		end := crlf
		if !c.chunked {
			end = nil
		}
		err = c.sock.Writev(c.out, p, end)
	} else if _, err = c.nc.Write(c.out); err == nil {
		_, err = c.nc.Write(p)
	}
	c.out = c.out[:0]
	if c.chunked && c.sock == nil {
		c.out = append(c.out, '\r', '\n')
	}
	if err != nil {
		c.broken = true
	}
	return err
}

var crlf = []byte("\r\n")

// Flush sends what is pending.
func (c *Conn) Flush() error { return c.flush() }

func (c *Conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	c.armWrite(time.Now()) // the piece before may be long ago
	err := c.send(c.out)
	c.out = c.out[:0]
	if err != nil {
		c.broken = true
	}
	return err
}

// End ends the answer. It fails when the body was shorter than announced.
func (c *Conn) End(trailer *Fields) error {
	if c.bodyless {
		return c.flush()
	}
	if c.left > 0 {
		c.broken = true
		_ = c.flush()
		return shortBody(0, c.left)
	}
	if c.chunked {
		c.out = append(c.out, '0', '\r', '\n')
		c.out = appendFields(c.out, trailer, framed)
		c.out = append(c.out, '\r', '\n')
	}
	return c.flush()
}

// Abort makes the end of the connection tell the client that the answer is not
// whole: where only the end would, it is a reset.
func (c *Conn) Abort() {
	_ = c.flush()
	c.broken = true
	if c.started && !c.chunked && c.left < 0 && c.tcp != nil {
		_ = c.tcp.SetLinger(0)
	}
}

// Closing says that the connection ends with this answer.
func (c *Conn) Closing() bool { return c.closing }

// Broken says that no further byte can be sent in order.
func (c *Conn) Broken() bool { return c.broken }

// settled says that nothing more of the body has to come.
func (b *Body) settled() bool {
	if !b.mu.TryLock() {
		return false
	}
	defer b.mu.Unlock()
	return b.b.ended()
}
