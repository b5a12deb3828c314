package wire

import (
	"io"
	"syscall"

	"golang.org/x/sys/unix"
)

// canSendfile says whether the kernel sends files.
const canSendfile = true

// sendfileMost is what one call of sendfile is asked for: with more, one busy
// connection would keep its thread from others for too long.
const sendfileMost = 1 << 20

// kernel is the state of a send that the poller may interrupt at any byte. The
// functions are made once per connection: a closure per request would be
// garbage.
type kernel struct {
	try   func(fd uintptr) bool
	wait  func(fd uintptr) bool
	full  bool // the socket took no more, and a leader does not wait
	c     *conn
	lead  []byte // what goes before the file
	more  bool   // and more comes after what is sent now
	src   *File
	off   int64
	end   int64
	err   error
	moved int64 // bytes of the file sent
	got   int
}

func (k *kernel) init(c *conn) {
	k.c = c
	k.try, k.wait = k.trySend, k.tryRead
}

// trySend sends until everything is gone (true) or the socket is full: false, so
// that it is called again, or full for a leader.
func (k *kernel) trySend(fd uintptr) bool {
	if k.src != nil && k.src.bad.Load() {
		k.err = errSpoiled
		return true
	}
	for {
		var n int
		var err error
		switch {
		case len(k.lead) > 0:
			flags := unix.MSG_NOSIGNAL
			if k.more || k.off < k.end {
				flags |= unix.MSG_MORE
			}
			n, err = unix.SendmsgN(int(fd), k.lead, nil, nil, flags)
			if err == nil {
				k.lead = k.lead[n:]
			}
		case k.off < k.end:
			if k.moved > 0 { // who opened the file has just looked at it
				if k.err = k.src.sound(); k.err != nil {
					return true
				}
			}
			n, err = syscall.Sendfile(int(fd), k.src.fd, &k.off, int(min(k.end-k.off, sendfileMost)))
			if err == nil {
				if n == 0 {
					k.err = errShort
					return true
				}
				k.moved += int64(n)
			}
		default:
			return true
		}
		switch err {
		case nil:
			k.c.progress()
		case unix.EINTR:
		case unix.EAGAIN:
			k.full = k.c.led.now
			return k.full
		default:
			k.err = err
			return true
		}
	}
}

// push sends lead and then the file from off to end; src may be nil without one.
func (k *kernel) push(lead []byte, src *File, off, end int64, more bool) error {
	k.lead, k.src, k.off, k.end, k.more, k.err = lead, src, off, end, more, nil
	for {
		k.full = false
		if err := k.c.raw.Write(k.try); err != nil {
			return err
		}
		if !k.full {
			return k.err
		}
		k.c.leave()
		k.c.led.more += ledMore
	}
}

// sendPlain sends an answer of a file by the kernel.
func (c *conn) sendPlain(r *Request, a *Answer) error {
	k := &c.send.kernel
	head := a.appendHead(c.send.head[:0], c.s.common, *c.s.date.Load(), r.Minor)
	c.send.head = head[:0]
	k.moved = 0
	parts := int64(0)
	for i, sp := range a.spans {
		if a.tail != "" {
			head = append(head, a.heads[i]...)
			parts += int64(len(a.heads[i]))
		}
		for off, end := sp.off, sp.off+sp.length; off < end; {
			n, err := c.next(a, off, end-off)
			if err == nil {
				err = k.push(head, a.file, off, off+n, off+n < end || a.tail != "")
			}
			if err != nil {
				a.Sent = k.moved
				return err
			}
			head, off = head[:0], off+n
		}
	}
	if a.tail != "" {
		if err := k.push(append(head, a.tail...), a.file, 0, 0, false); err != nil {
			a.Sent = k.moved
			return err
		}
		parts += int64(len(a.tail))
	}
	a.Sent = k.moved + parts
	c.send.shrink()
	c.review(a.Sent, shortPath)
	return nil
}

// hasRoom says whether the socket takes bytes. That it was asked for makes the
// kernel tell when it does again.
func hasRoom(fd uintptr) bool {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(p[:], 0)
	return n > 0 || err != nil && err != unix.EINTR // the write says what is wrong
}

// room waits until the socket takes bytes.
func (c *conn) room() error {
	if c.raw == nil {
		return nil
	}
	return c.raw.Write(hasRoom)
}

// tryRead reads into the connection's buffer, which it takes only when there
// is something to read: false while there is not, but for a leader.
func (k *kernel) tryRead(fd uintptr) bool {
	c := k.c
	c.hold()
	for {
		n, err := unix.Read(int(fd), *c.buf)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			c.drop()
			return c.led.now
		case err != nil:
			k.err = err
		case n == 0:
			k.err = io.EOF
		default:
			k.got = n
		}
		return true
	}
}

// awaitPlain waits for the first bytes of a request; a leader takes what there is.
func (c *conn) awaitPlain() error {
	k := &c.send.kernel
	k.err, k.got = nil, 0
	if err := c.raw.Read(k.wait); err != nil {
		return err
	}
	c.filled = k.got
	return k.err
}
