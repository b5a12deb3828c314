package wire

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// nothingToRead peeks. It cannot block, so that the scheduler need not know of
// it, and allocates nothing.
func nothingToRead(fd uintptr) bool {
	var b byte
	_, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b)), 1, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
	return e == unix.EAGAIN
}
