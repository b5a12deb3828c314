//go:build unix && !linux

package wire

import "golang.org/x/sys/unix"

// hungUp says whether the peer has ended its sending, or everything.
func hungUp(raw rawConn) (ended, reset bool) {
	err := raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		ended = err == nil && n == 0 || err != nil && err != unix.EAGAIN && err != unix.EINTR
		reset = err != nil
	})
	return ended && err == nil, reset
}
