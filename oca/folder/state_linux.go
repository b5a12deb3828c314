package folder

import (
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

const nonblock = unix.O_NONBLOCK

// look tells the state of the file that a name leads to. It reads nothing: only
// a file that was opened through the root before is compared with it.
func (f *files) look(name string) (state, error) {
	var st unix.Stat_t
	for {
		err := unix.Fstatat(f.fd, name, &st, 0)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return state{}, err
		}
	}
	return state{device: uint64(st.Dev), inode: st.Ino, size: st.Size, modified: st.Mtim.Nano(), status: st.Ctim.Nano()}, nil
}

func stateOf(info fs.FileInfo) state {
	s := state{size: info.Size(), modified: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.device, s.inode, s.status = uint64(st.Dev), st.Ino, st.Ctim.Nano()
	}
	return s
}
