package wire

import "io"

// answer sends an answer: its head, and its body by the way that suits the
// connection.
func (c *conn) answer(r *Request, a *Answer) error {
	if a.Status == 0 {
		a.Empty(500)
	}
	if a.bodyless {
		return c.message(r, a, nil)
	}
	switch {
	case a.text != nil || a.Length == 0:
		return c.message(r, a, a.text)
	case c.tls == nil && c.raw != nil && canSendfile:
		return c.sendPlain(r, a)
	}
	return c.sendCopied(r, a)
}

// message sends a head and a short body in one write.
func (c *conn) message(r *Request, a *Answer, body []byte) error {
	c.hold()
	b := append(a.appendHead(c.send.head[:0], c.s.common, *c.s.date.Load(), r.Minor), body...)
	c.send.head = b[:0]
	var w io.Writer = c.tcp
	if c.tls != nil {
		w = c.tls
	}
	if _, err := w.Write(b); err != nil {
		return err
	}
	a.Sent = int64(len(body))
	c.send.shrink()
	return nil
}

// keptHead is the largest head buffer that a connection keeps.
const keptHead = 1 << 10

// sender is what a connection needs to send.
type sender struct {
	head []byte
	kernel
}

func (s *sender) shrink() {
	if cap(s.head) > keptHead {
		s.head = nil
	}
}

// sendCopied sends head and file through user space, in large writes. With TLS
// the records of a batch are gathered into one write.
func (c *conn) sendCopied(r *Request, a *Answer) error {
	b, _ := c.s.batches.Get().(*batch)
	defer c.s.batches.Put(b)
	var w io.Writer = c.tcp
	if c.tls != nil {
		w = c.tls
		if b.cipher == nil {
			b.cipher = make([]byte, 0, (batchRecords+1)*sealed)
		}
		c.out.b = b
		defer func() { c.out.b = nil }()
	}
	emit := func(p []byte) error {
		if _, err := w.Write(p); err != nil {
			return err
		}
		if c.tls != nil {
			if err := c.out.flush(); err != nil {
				return err
			}
		}
		c.progress()
		return nil
	}
	used := len(a.appendHead(b.plain[:0], c.s.common, *c.s.date.Load(), r.Minor))
	extra := used // bytes of the batch that are not of the body
	for i, sp := range a.spans {
		if a.tail != "" {
			used += copy(b.plain[used:], a.heads[i])
		}
		for off, end := sp.off, sp.off+sp.length; off < end; {
			n, err := c.next(a, off, min(end-off, int64(len(b.plain)-used)))
			if err != nil {
				return err
			}
			if err := readFull(a.file, b.plain[used:used+int(n)], off); err != nil {
				return err
			}
			used, off = used+int(n), off+n
			if used == len(b.plain) || off < end {
				if err := emit(b.plain[:used]); err != nil {
					return err
				}
				a.Sent += int64(used - extra)
				used, extra = 0, 0
			}
		}
		if len(b.plain)-used < 1<<10 { // room for the next part's header
			if err := emit(b.plain[:used]); err != nil {
				return err
			}
			a.Sent += int64(used - extra)
			used, extra = 0, 0
		}
	}
	used += copy(b.plain[used:], a.tail)
	if used > 0 {
		if err := emit(b.plain[:used]); err != nil {
			return err
		}
		a.Sent += int64(used - extra)
	}
	c.review(a.Sent)
	return nil
}

// next says how many of n bytes from off may be sent now: those that have
// arrived, and that the rate lets pass.
func (c *conn) next(a *Answer, off, n int64) (int64, error) {
	if a.file.grow == nil && (c.s.c.Pace == nil || c.s.c.Pace.Quantum() == 0) {
		return n, nil
	}
	c.waiting.Store(true)
	defer c.waiting.Store(false)
	defer c.progress()
	limit, err := a.file.await(c.ctx, off)
	if err != nil {
		return 0, err
	}
	return c.s.pace(c.ctx, min(n, limit-off))
}

// progress notes that the client takes what it gets.
func (c *conn) progress() { c.since.Store(c.s.tick.Load()) }
