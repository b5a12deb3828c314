package wire

import (
	"time"

	"golang.org/x/sys/unix"
)

// The send buffer. The kernel grows it to several megabytes for a fast
// receiver, and then what is sent has left the processor's cache before it is
// read. A buffer need only hold what is on its way, rate × round trip; on a
// path inside a machine or a rack that is little. On a longer path a fixed
// buffer would cap the rate at buffer / round trip, so there the kernel's own
// tuning is left alone, or given back its freedom once it shows that a
// connection has come to need it (tcp_info, tcp(7); SO_BUF_LOCK, socket(7)).
const (
	// lineRate in bytes per second is what a small buffer must not stand in
	// the way of: 10 Gbit/s.
	lineRate = 10_000_000_000 / 8
	// smallBuffer in bytes is what is asked for; the kernel doubles it for its
	// own bookkeeping.
	smallBuffer = 128 << 10
	// shortPath is the round trip up to which smallBuffer suffices.
	shortPath = smallBuffer * time.Second / lineRate
	// reviewEvery is after how many bytes a small buffer is looked at again.
	reviewEvery = 8 << 20
)

// sizing is what a connection knows of its send buffer.
type sizing struct {
	small bool
	sent  int64
}

// fit sizes the send buffer of a new connection by its first round trip.
func (c *conn) fit() {
	if c.raw == nil {
		return
	}
	_ = c.raw.Control(func(fd uintptr) { // closed: the next read says so
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil || roundTrip(info) > shortPath {
			return
		}
		c.size.small = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, smallBuffer) == nil
	})
}

// review looks whether a small buffer still suits the path, which a first
// round trip may have shown too short.
func (c *conn) review(sent int64) {
	if !c.size.small {
		return
	}
	if c.size.sent += sent; c.size.sent < reviewEvery {
		return
	}
	c.size.sent = 0
	_ = c.raw.Control(func(fd uintptr) { // closed: the next write says so
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil || roundTrip(info) <= shortPath {
			return
		}
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BUF_LOCK, 0) == nil {
			c.size.small = false
		}
	})
}

// roundTrip is the least that was measured, which queues do not lengthen.
func roundTrip(i *unix.TCPInfo) time.Duration {
	us := i.Min_rtt
	if us == 0 || us == ^uint32(0) {
		us = i.Rtt
	}
	return time.Duration(us) * time.Microsecond
}
