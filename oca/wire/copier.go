package wire

import "io"

// copier sends through user space: it fills a batch, and writes it when it is
// full. With TLS the records of a batch are gathered into one write.
//
// A batch is taken only when the socket has room for it, and given back once it
// is written. So the few batches in use stay in the processor's cache, however
// many clients are slower than the file is read: taken before, one would lie
// full behind every one of them.
type copier struct {
	c     *conn
	a     *Answer
	b     *batch // nil while nothing is gathered
	used  int    // bytes in it
	aside int    // of which are not of the body
}

// begin takes a batch once the client takes bytes.
func (o *copier) begin() error {
	c := o.c
	if o.b != nil {
		return nil
	}
	if err := c.room(); err != nil {
		return err
	}
	o.b, _ = c.s.batches.Get().(*batch)
	if c.tls != nil {
		if o.b.cipher == nil {
			o.b.cipher = make([]byte, 0, (batchRecords+1)*sealed)
		}
		c.out.b = o.b
	}
	return nil
}

// put adds bytes.
func (o *copier) put(p []byte) error {
	for len(p) > 0 {
		if err := o.begin(); err != nil {
			return err
		}
		n := copy(o.b.plain[o.used:], p)
		o.used += n
		p = p[n:]
		if err := o.full(); err != nil {
			return err
		}
	}
	return nil
}

// file adds a part of the answer's file. What has come of a file that is still
// arriving goes before the rest is waited for.
func (o *copier) file(sp span) error {
	for off, end := sp.off, sp.off+sp.length; off < end; {
		if err := o.begin(); err != nil {
			return err
		}
		n, err := o.c.next(o.a, off, min(end-off, int64(len(o.b.plain)-o.used)))
		if err != nil {
			return err
		}
		if err := readFull(o.a.file, o.b.plain[o.used:o.used+int(n)], off); err != nil {
			return err
		}
		o.used, off = o.used+int(n), off+n
		if off < end {
			err = o.flush()
		} else {
			err = o.full()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// full flushes a full batch.
func (o *copier) full() error {
	if o.used < len(o.b.plain) {
		return nil
	}
	return o.flush()
}

// flush writes what was gathered.
func (o *copier) flush() error {
	if o.b == nil {
		return nil
	}
	c := o.c
	var w io.Writer = c.tcp
	if c.tls != nil {
		w = c.tls
	}
	_, err := w.Write(o.b.plain[:o.used])
	if err == nil && c.tls != nil {
		err = c.out.flush()
	}
	if err != nil {
		return err
	}
	c.progress()
	o.a.Sent += int64(o.used - o.aside)
	o.used, o.aside = 0, 0
	o.release()
	return nil
}

// release gives the batch back.
func (o *copier) release() {
	if o.b == nil {
		return
	}
	if o.c.out != nil {
		o.c.out.b = nil
	}
	o.b.cipher = o.b.cipher[:0] // of a write that failed
	o.c.s.batches.Put(o.b)
	o.b = nil
}
