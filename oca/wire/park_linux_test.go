package wire

import (
	"bufio"
	"testing"
)

// An idle connection holds no buffer.
func TestIdleConnectionsHoldNoBuffer(t *testing.T) {
	r := newRig(t, 10, nil)
	c := dial(t, r.addr)
	raw(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	eventually(t, func() string {
		// Under its lock the parker's connections rest: none goes on.
		p := r.parkers[0]
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.conns) != 1 {
			return "it is not parked"
		}
		for _, c := range p.conns {
			if c.buf != nil || c.filled > 0 {
				return "it holds a buffer"
			}
		}
		return ""
	})
}
