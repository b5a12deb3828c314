package host

import (
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/flix-lab/flix/services"
)

// freezeSocket makes the kernel drop every packet that comes for a socket, by
// a classic BPF program that keeps nothing (socket(7), SO_ATTACH_FILTER), or
// lets them in again. What a peer sent meanwhile TCP sends again: like a
// process under SIGSTOP, the socket is silent and not closed, but the peer
// does not even get an acknowledgement.
func freezeSocket(c syscall.RawConn, on bool) error {
	var err error
	cerr := c.Control(func(fd uintptr) {
		if !on {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
			if err == unix.ENOENT { // it had none
				err = nil
			}
			return
		}
		drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop})
	})
	switch {
	case cerr != nil:
		return nil // it is closed: nothing comes for it
	case err == unix.EPERM:
		return services.Errorf(services.Denied, "the kernel does not let this process freeze its sockets").
			WithRemedy("stop the instance instead: flix chaos run stop")
	}
	return err
}
