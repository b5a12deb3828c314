package wire

import (
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// parker looks after connections that have been idle for a while: they wait in
// one epoll set and cost no goroutine. The set itself waits in Go's poller.
// Safe for concurrent use.
type parker struct {
	f   *os.File
	raw syscall.RawConn
	fd  int

	mu     sync.Mutex
	conns  map[int]*conn // by descriptor
	closed bool
}

func newParker() (*parker, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil { // for os.NewFile: it is pollable
		return nil, errors.Join(err, unix.Close(fd))
	}
	p := &parker{f: os.NewFile(uintptr(fd), "epoll"), fd: fd, conns: map[int]*conn{}}
	p.raw, err = p.f.SyscallConn()
	return p, err
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
	if p.closed {
		return false
	}
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: int32(fd)}
	if unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &e) != nil {
		return false
	}
	p.conns[fd] = c
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

// unpark lets a parked connection go on; false if it is not parked.
func (p *parker) unpark(c *conn) bool {
	fd := c.descriptor()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.resume(fd, c)
}

// resume starts a connection's goroutine again. Called with the lock held; the
// descriptor is open, since only that goroutine closes it.
func (p *parker) resume(fd int, c *conn) bool {
	if p.conns[fd] != c || c == nil {
		return false
	}
	delete(p.conns, fd)
	_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, fd, nil) // it is in the set
	c.parked.Store(false)
	go c.loop()
	return true
}

// run resumes connections whose clients say something, until close.
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
		p.mu.Lock()
		for _, e := range events[:max(n, 0)] {
			p.resume(int(e.Fd), p.conns[int(e.Fd)])
		}
		p.mu.Unlock()
	}
}

// close resumes everything, takes no more and ends run.
func (p *parker) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for fd, c := range p.conns {
		p.resume(fd, c)
	}
	p.f.Close()
}
