package wire

import (
	"net"

	"golang.org/x/sys/unix"
)

// unsentMost in bytes is what may wait in the kernel. Half of it costs TLS on a fast
// path some of its speed.
const unsentMost = 256 << 10

// LimitUnsent bounds what the kernel takes of a connection before it has sent it
// (TCP_NOTSENT_LOWAT, tcp(7)). It takes 4 MiB otherwise, and says that there is
// room once a third of that is free: to a client that is slow, yet reads, nothing
// could be written for longer than a piece may take.
func LimitUnsent(tcp *net.TCPConn) {
	raw, err := tcp.SyscallConn()
	if err != nil { // it is closed
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentMost) // a kernel without it takes more
	})
}
