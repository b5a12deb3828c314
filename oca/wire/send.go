package wire

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
	if err := c.put(b); err != nil {
		return err
	}
	a.Sent = int64(len(body))
	c.send.shrink()
	return nil
}

// put writes bytes.
func (c *conn) put(b []byte) error {
	switch {
	case c.led.now:
		return c.send.push(b, nil, 0, 0, false)
	case c.tls != nil:
		_, err := c.tls.Write(b)
		return err
	}
	_, err := c.tcp.Write(b)
	return err
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

// sendCopied sends head and file through user space, in large writes.
func (c *conn) sendCopied(r *Request, a *Answer) error {
	o := copier{c: c, a: a}
	defer o.release()
	head := a.appendHead(c.send.head[:0], c.s.common, *c.s.date.Load(), r.Minor)
	c.send.head = head[:0]
	err := o.put(head)
	o.aside = len(head)
	for i := 0; err == nil && i < len(a.spans); i++ {
		if a.tail != "" {
			err = o.put([]byte(a.heads[i]))
		}
		if err == nil {
			err = o.file(a.spans[i])
		}
	}
	if err == nil {
		err = o.put([]byte(a.tail))
	}
	if err == nil {
		err = o.flush()
	}
	if err != nil {
		return err
	}
	c.send.shrink()
	c.review(a.Sent, shortPath)
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
