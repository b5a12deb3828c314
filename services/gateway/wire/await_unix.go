//go:build unix

package wire

import (
	"net"

	"golang.org/x/sys/unix"
)

// awaitByte waits, without a buffer, until tcp has a byte to read or has ended,
// or its read deadline is over.
func awaitByte(tcp *net.TCPConn) error {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return err != unix.EAGAIN && err != unix.EINTR
	})
}
