//go:build !linux

package wire

import (
	"net"
	"sync"
	"time"
)

// sweepEvery is how often connections are looked at where the system has no
// cheap way to be told.
const sweepEvery = 250 * time.Millisecond

// Watcher tells when clients hang up, by looking at them now and then. A client
// that hangs up with bytes of it still unread is noticed when they are.
type Watcher struct {
	mu   sync.Mutex
	who  map[*net.TCPConn]*seat
	stop chan struct{}
}

type seat struct {
	raw rawConn
	w   watched
}

// NewWatcher makes a watcher; it tells nothing before Run.
func NewWatcher() (*Watcher, error) {
	return &Watcher{who: make(map[*net.TCPConn]*seat), stop: make(chan struct{})}, nil
}

// Watch tells w when the peer of tcp ends. Call forget before tcp is closed.
func (w *Watcher) Watch(tcp *net.TCPConn, p *Presence) (forget func(), err error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.who[tcp] = &seat{raw, p}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.who, tcp)
	}, nil
}

// Run tells until Close.
func (w *Watcher) Run() error {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		select {
		case <-w.stop:
			return nil
		case <-t.C:
		}
		w.mu.Lock()
		for tcp, s := range w.who {
			if ended, reset := hungUp(s.raw); ended {
				delete(w.who, tcp)
				s.w.Gone(reset)
			}
		}
		w.mu.Unlock()
	}
}

// Close ends Run.
func (w *Watcher) Close() error { close(w.stop); return nil }
