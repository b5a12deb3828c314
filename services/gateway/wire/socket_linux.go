package wire

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const hasSockets = true

// receiveNow reads what is there. A descriptor of the runtime's never blocks,
// so that the scheduler need not know of the call.
func receiveNow(fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, _, e := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch e {
		case 0:
			return int(n), 0
		case unix.EINTR:
		default:
			return 0, e
		}
	}
}

// sendNow writes as much as there is room for, in one call.
func sendNow(fd uintptr, out *[3][]byte) (int, syscall.Errno) {
	var (
		v [3]unix.Iovec
		k int
	)
	for _, p := range out {
		if len(p) > 0 {
			v[k].Base = unsafe.SliceData(p)
			v[k].SetLen(len(p))
			k++
		}
	}
	for {
		var (
			n uintptr
			e syscall.Errno
		)
		switch k {
		case 0:
			return 0, 0
		case 1:
			n, _, e = unix.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(v[0].Base)), uintptr(v[0].Len))
		default:
			n, _, e = unix.RawSyscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&v)), uintptr(k))
		}
		runtime.KeepAlive(out)
		switch e {
		case 0:
			return int(n), 0
		case unix.EINTR:
		default:
			return 0, e
		}
	}
}
