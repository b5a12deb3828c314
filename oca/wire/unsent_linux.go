package wire

import (
	"time"

	"golang.org/x/sys/unix"
)

// Bytes not sent. The kernel takes megabytes of an answer into a connection's
// send buffer, more than the path has room for. What waits there is sent later, a
// bit with every acknowledgement, on the processor and the time of whoever
// acknowledges: on a machine shared with its clients they are slowed by it, and
// every answer in progress has its share of the processor's cache. So on a short
// path the kernel takes little more than it can send at once
// (TCP_NOTSENT_LOWAT, tcp(7)); the goroutine sends when there is room, and what is
// on its way is limited by nothing but congestion control. On a longer path this
// would only risk that the line runs dry before the goroutine is awake.
const (
	// unsentMost in bytes is what may wait in the kernel on a short path.
	unsentMost = 32 << 10
	// shortPath is the longest round trip inside a machine or a rack.
	shortPath = 100 * time.Microsecond
	// reviewEvery is after how many bytes a path found short is looked at again.
	reviewEvery = 8 << 20
)

// path is what a connection knows of the way to its client.
type path struct {
	short  bool
	unsent int   // what the kernel let wait before
	sent   int64 // bytes since it was looked at
}

// fit limits what waits in the kernel if the first round trip was short: at most
// most.
func (c *conn) fit(most time.Duration) {
	if c.raw == nil {
		return
	}
	_ = c.raw.Control(func(fd uintptr) { // closed: the next read says so
		was, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
		if err != nil || !isWithin(fd, most) {
			return
		}
		c.path.unsent = was
		c.path.short = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentMost) == nil
	})
}

// review lifts the limit if the path has become longer than most, which the first
// round trip did not show.
func (c *conn) review(sent int64, most time.Duration) {
	if !c.path.short {
		return
	}
	if c.path.sent += sent; c.path.sent < reviewEvery {
		return
	}
	c.path.sent = 0
	_ = c.raw.Control(func(fd uintptr) { // closed: the next write says so
		if !isWithin(fd, most) && unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, c.path.unsent) == nil {
			c.path.short = false
		}
	})
}

// isWithin says whether a connection's round trip is known to take at most most.
// The least that was measured counts, which queues do not lengthen.
func isWithin(fd uintptr, most time.Duration) bool {
	i, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return false
	}
	us := i.Min_rtt
	if us == 0 || us == ^uint32(0) {
		us = i.Rtt
	}
	return time.Duration(us)*time.Microsecond <= most
}
