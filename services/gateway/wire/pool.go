package wire

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type rawConn = syscall.RawConn

// PoolConfig says how a pool connects.
type PoolConfig struct {
	// Dial opens a connection; it says how long that may take.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// MaxIdle bounds the idle connections per server.
	MaxIdle int
	// Idle is how long a connection is kept that carries nothing.
	Idle time.Duration
	// MaxHeader bounds the header of an answer, in bytes.
	MaxHeader int
	// ContinueAfter is how long a request with Expect waits for leave before
	// its body is sent all the same, by RFC 9110 section 10.1.1.
	ContinueAfter time.Duration
	// Buffers are shared with others.
	Buffers *Buffers
}

// Pool sends requests over HTTP/1.1 connections that it keeps. It implements
// Sender. End it with Close.
type Pool struct {
	conf PoolConfig

	mu     sync.RWMutex
	hosts  map[string]*host
	sweep  *time.Timer // runs while there are hosts
	closed bool
	sweeps atomic.Uint32 // how often it ran
	bodies sync.WaitGroup
}

// host is one server's idle connections, the one used last at the end.
type host struct {
	mu   sync.Mutex
	idle []*link
	gone bool // it is in no pool any more: nobody would find what is put here
}

// NewPool returns an empty pool.
func NewPool(conf PoolConfig) *Pool {
	return &Pool{conf: conf, hosts: make(map[string]*host)}
}

// host returns the connections of a server, or nil if there are none and make
// is not wanted.
func (p *Pool) host(addr string) *host {
	p.mu.RLock()
	h := p.hosts[addr]
	p.mu.RUnlock()
	return h
}

// get returns an idle connection that is not known to be dead, or nil. looks says
// that who uses it looks first whether it is.
func (p *Pool) get(addr string, looks bool) *link {
	h := p.host(addr)
	if h == nil {
		return nil
	}
	for {
		h.mu.Lock()
		n := len(h.idle)
		if n == 0 {
			h.mu.Unlock()
			return nil
		}
		l := h.idle[n-1]
		h.idle[n-1] = nil
		h.idle = h.idle[:n-1]
		h.mu.Unlock()
		// Whatever a server says unasked would be taken for the next answer:
		// one byte, or an end, and the connection is not used again.
		if looks && l.sock != nil || l.probe == nil || l.probe.nothing() {
			return l
		}
		_ = l.nc.Close()
	}
}

// put keeps a connection for the next request.
func (p *Pool) put(l *link) {
	h := p.host(l.addr)
	if h == nil {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			_ = l.nc.Close()
			return
		}
		if h = p.hosts[l.addr]; h == nil {
			h = new(host)
			p.hosts[l.addr] = h
		}
		if p.sweep == nil {
			p.sweep = time.AfterFunc(p.conf.Idle/idleSweeps, p.forget)
		}
		p.mu.Unlock()
	}
	l.kept, l.sweep = true, p.sweeps.Load()
	h.mu.Lock()
	full := h.gone || len(h.idle) >= p.conf.MaxIdle
	if !full {
		h.idle = append(h.idle, l)
	}
	h.mu.Unlock()
	if full {
		_ = l.nc.Close()
	}
}

// idleSweeps is how often idle connections are looked at within the time that
// they are kept, which is thus exact to that part of it. To count the looks is
// cheaper than to read the clock for each request.
const idleSweeps = 4

// forget closes connections that are idle for too long, or dead, and comes
// again as long as there are any.
func (p *Pool) forget() {
	now := p.sweeps.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	for addr, h := range p.hosts {
		h.mu.Lock()
		kept := h.idle[:0]
		for _, l := range h.idle {
			if now-l.sweep > idleSweeps || l.probe != nil && !l.probe.nothing() {
				_ = l.nc.Close()
				continue
			}
			kept = append(kept, l)
		}
		clear(h.idle[len(kept):])
		h.idle, h.gone = kept, len(kept) == 0
		h.mu.Unlock()
		if len(kept) == 0 {
			delete(p.hosts, addr)
		}
	}
	if p.closed || len(p.hosts) == 0 {
		p.sweep = nil
		return
	}
	p.sweep.Reset(p.conf.Idle / idleSweeps)
}

// CloseIdleConnections implements Sender.
func (p *Pool) CloseIdleConnections() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.hosts {
		h.mu.Lock()
		for _, l := range h.idle {
			_ = l.nc.Close()
		}
		clear(h.idle)
		h.idle = h.idle[:0]
		h.mu.Unlock()
	}
}

// Close ends the idle connections, keeps none from now on and waits for the
// bodies that are being sent.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	if p.sweep != nil {
		p.sweep.Stop()
		p.sweep = nil
	}
	hosts := p.hosts
	p.hosts = make(map[string]*host)
	p.mu.Unlock()
	for _, h := range hosts {
		h.mu.Lock()
		for _, l := range h.idle {
			_ = l.nc.Close()
		}
		h.idle, h.gone = nil, true
		h.mu.Unlock()
	}
	p.bodies.Wait()
}
