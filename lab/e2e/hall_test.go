package e2e_test

import (
	"io"
	"net"
	"sync"
)

// hall is everybody who went through a door: connections to it, each joined to
// one of its own to where it leads.
type hall struct {
	mu    sync.Mutex
	conns map[net.Conn]bool
	shut  bool
	wg    sync.WaitGroup
}

// newHall lets everybody who connects to l through to a socket, until l closes.
func newHall(l net.Listener, to string) *hall {
	h := &hall{conns: map[net.Conn]bool{}}
	h.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			h.wg.Go(func() { h.lead(c, to) })
		}
	})
	return h
}

// enter remembers a connection; false when the hall is being cleared.
func (h *hall) enter(c net.Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.shut {
		return false
	}
	h.conns[c] = true
	return true
}

func (h *hall) lead(c net.Conn, to string) {
	defer c.Close()
	up, err := net.Dial("unix", to)
	if err != nil {
		return
	}
	defer up.Close()
	if !h.enter(c) || !h.enter(up) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { pass(up, c) })
	both.Go(func() { pass(c, up) })
	both.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, c)
	delete(h.conns, up)
}

// pass copies one way, and passes the end on: streams of a container are closed
// one way at a time.
func pass(to, from net.Conn) {
	_, _ = io.Copy(to, from) // the end of either ends it
	if half, ok := to.(*net.UnixConn); ok {
		_ = half.CloseWrite()
	}
}

// clear ends every connection and waits until nobody is left.
func (h *hall) clear() {
	h.mu.Lock()
	h.shut = true
	for c := range h.conns {
		_ = c.Close()
	}
	h.mu.Unlock()
	h.wg.Wait()
}
