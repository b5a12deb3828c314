package wire

import (
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Watcher tells when clients hang up, of all connections at once and without a
// system call per request: an epoll set that wakes for ends only, edge
// triggered, and is itself waited for by the runtime's poller.
type Watcher struct {
	file *os.File
	fd   int
	mu   sync.Mutex
	gen  int32
	who  map[int32]watch
}

type watch struct {
	gen int32
	w   watched
}

// NewWatcher makes a watcher; it tells nothing before Run.
func NewWatcher() (*Watcher, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return &Watcher{file: os.NewFile(uintptr(fd), "epoll"), fd: fd, who: make(map[int32]watch)}, nil
}

// Watch tells w when the peer of tcp ends. Call forget before tcp is closed.
func (w *Watcher) Watch(tcp *net.TCPConn, p *Presence) (forget func(), err error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	var (
		fd   int32
		gen  int32
		cerr error
	)
	err = raw.Control(func(f uintptr) {
		fd = int32(f)
		w.mu.Lock()
		w.gen++
		gen = w.gen
		w.who[fd] = watch{gen, p}
		w.mu.Unlock()
		// Reset and hang-up are always told.
		cerr = unix.EpollCtl(w.fd, unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{Events: unix.EPOLLRDHUP | unix.EPOLLET, Fd: fd, Pad: gen})
	})
	forget = func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.who[fd].gen == gen {
			delete(w.who, fd)
		}
	}
	if err == nil && cerr != nil {
		err = os.NewSyscallError("epoll_ctl", cerr)
	}
	if err != nil {
		forget()
		return nil, err
	}
	return forget, nil
}

// Run tells until Close.
func (w *Watcher) Run() error {
	raw, err := w.file.SyscallConn()
	if err != nil {
		return err
	}
	events := make([]unix.EpollEvent, 64)
	for {
		var (
			n    int
			werr error
		)
		err := raw.Read(func(fd uintptr) bool {
			n, werr = unix.EpollWait(int(fd), events, 0)
			return n > 0 || werr != nil && werr != unix.EINTR
		})
		if err != nil {
			return nil // closed
		}
		if werr != nil {
			return os.NewSyscallError("epoll_wait", werr)
		}
		for _, e := range events[:n] {
			w.mu.Lock()
			o, ok := w.who[e.Fd]
			w.mu.Unlock()
			if ok && o.gen == e.Pad {
				o.w.Gone(e.Events&(unix.EPOLLERR|unix.EPOLLHUP) != 0)
			}
		}
	}
}

// Close ends Run.
func (w *Watcher) Close() error { return w.file.Close() }
