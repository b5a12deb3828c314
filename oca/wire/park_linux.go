package wire

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// parker looks after connections that wait in one epoll set and cost no
// goroutine. The set itself waits in Go's poller. Safe for concurrent use.
//
// Those that have been idle for a while get a goroutine when something comes.
// Those that ask for little at a time are led: the goroutine that looks at the
// set, the leader, answers their requests itself, one after the other. To wake a
// goroutine for each would cost more than a small answer does, since Go wakes
// another thread for it, which takes the processor from the clients. Before the
// leader waits for one of them somebody else takes the lead, and it goes on with
// this connection alone. (Leader and followers: Schmidt et al., Pattern-Oriented
// Software Architecture, volume 2, 2000.)
type parker struct {
	s       *Server
	running *sync.WaitGroup // has the leader
	f       *os.File
	raw     syscall.RawConn
	fd      int
	closed  atomic.Bool

	mu    sync.Mutex
	conns map[int]*conn // by descriptor

	head []byte // the leader's, for heads of answers
}

func newParker(s *Server) (*parker, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil { // for os.NewFile: it is pollable
		return nil, errors.Join(err, unix.Close(fd))
	}
	p := &parker{s: s, f: os.NewFile(uintptr(fd), "epoll"), fd: fd, conns: map[int]*conn{}}
	p.raw, err = p.f.SyscallConn()
	return p, err
}

// led is what a connection knows of being led.
type led struct {
	fd    int  // in the parker's set
	small int  // answers in a row that a leader may give
	more  int  // how many more of them than ledAfter it takes
	now   bool // by the goroutine that serves it
}

const (
	// ledAfter small answers in a row a connection is led.
	ledAfter = 3
	// ledMost in bytes is the largest answer that a leader gives: what a socket
	// takes at once. ledMore is how many more answers than before it takes to be led
	// again after one that did not fit.
	ledMost = 64 << 10
	ledMore = 100
	// warmFor is for how many ticks after it was sent a file is taken to be in the
	// kernel's memory: a leader waits for no disk.
	warmFor = 8
)

// wants says whether the connection should be led from now on.
func (l *led) wants() bool { return l.small >= ledAfter+l.more }

// look decides who gives an answer, which the handler has just filled in.
func (l *led) look(c *conn, a *Answer) {
	s := c.s
	if !s.c.Prompt || c.tls != nil || c.raw == nil {
		return
	}
	tick := s.tick.Load()
	warm := a.file == nil || tick-a.file.sent.Swap(tick) <= warmFor
	if a.Length > ledMost || !warm || a.file != nil && a.file.grow != nil || s.c.Pace != nil && s.c.Pace.Quantum() > 0 {
		l.small = 0
		c.leave()
		return
	}
	l.small++
}

// leave lets another goroutine lead, if this one does: what comes may wait.
func (c *conn) leave() {
	if !c.led.now {
		return
	}
	c.led.now, c.led.small = false, 0
	p := c.parker
	p.head = nil // the connection's now
	p.forget(c)
	p.running.Go(p.run)
}

// park takes a connection whose goroutine is about to end; false if it cannot.
// Once it has, the connection may be going on already.
func (p *parker) park(c *conn) bool {
	fd := c.descriptor()
	if fd < 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed.Load() {
		return false
	}
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(fd)}
	if unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &e) != nil {
		return false
	}
	p.conns[fd], c.led.fd = c, fd
	c.parked.Store(true)
	return true
}

// descriptor is the connection's file descriptor, -1 once it is closed.
func (c *conn) descriptor() int {
	fd := -1
	if c.raw == nil || c.raw.Control(func(n uintptr) { fd = int(n) }) != nil {
		return -1
	}
	return fd
}

// unpark lets a waiting connection go on; false if it does not wait here.
func (p *parker) unpark(c *conn) bool {
	fd := c.descriptor()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conns[fd] == c && p.resume(fd, c)
}

// resume starts a connection's goroutine again. Called with the lock held; the
// descriptor is open, since only that goroutine closes it.
func (p *parker) resume(fd int, c *conn) bool {
	if !c.parked.CompareAndSwap(true, false) {
		return false // the leader serves it
	}
	p.take(fd)
	go c.loop(nil)
	return true
}

func (p *parker) take(fd int) {
	delete(p.conns, fd)
	_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, fd, nil) // it is in the set
}

// forget takes out a connection that the caller serves.
func (p *parker) forget(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns[c.led.fd] == c {
		p.take(c.led.fd)
	}
}

// run leads: it serves or resumes connections whose clients say something, until
// close or until another goroutine leads.
func (p *parker) run() {
	events := make([]unix.EpollEvent, 128)
	for {
		n := 0
		err := p.raw.Read(func(fd uintptr) bool {
			var err error
			n, err = unix.EpollWait(int(fd), events, 0)
			return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
		})
		if err != nil {
			return
		}
		for _, e := range events[:max(n, 0)] {
			if c := p.claim(int(e.Fd)); c != nil && !p.lead(c) {
				return
			}
		}
	}
}

// claim is the connection if it is led; others go on by themselves.
func (p *parker) claim(fd int) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.conns[fd]
	if c == nil {
		return nil
	}
	if !c.led.wants() {
		p.resume(fd, c)
		return nil
	}
	if !c.parked.CompareAndSwap(true, false) {
		return nil
	}
	return c
}

// lead serves what a connection asks; false if this goroutine leads no longer.
func (p *parker) lead(c *conn) bool {
	c.led.now = true
	err := c.awaitPlain()
	if errors.Is(err, os.ErrDeadlineExceeded) { // it was woken when it did not wait
		_ = c.tcp.SetReadDeadline(time.Time{})
		err = nil
	}
	if err != nil {
		c.finish()
		return true
	}
	if c.filled == 0 {
		p.wait(c)
		return true
	}
	x, _ := p.s.spells.Get().(*exchange)
	c.send.head = p.head
	more := c.serve(x)
	if more && c.led.now && c.filled > 0 {
		c.leave() // who asks for more before the answer has come does so for long
	}
	if !c.led.now {
		if more {
			c.loop(x)
		} else {
			p.s.giveBack(x)
			c.finish()
		}
		return false
	}
	p.s.giveBack(x)
	p.head, c.send.head = c.send.head[:0], nil
	if !more {
		c.finish()
		return true
	}
	c.drop()
	p.wait(c)
	return true
}

// wait puts a connection that was served back among those that wait.
func (p *parker) wait(c *conn) {
	c.led.now = false
	c.enter(stateIdle)
	c.parked.Store(true)
	// Whoever said so while it was served found it awake.
	if (p.closed.Load() || c.overdue.Load() || p.s.draining.Load()) && c.parked.CompareAndSwap(true, false) {
		c.finish()
	}
}

// close resumes everything, takes no more and ends run.
func (p *parker) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed.Store(true)
	for fd, c := range p.conns {
		p.resume(fd, c)
	}
	p.f.Close()
}
