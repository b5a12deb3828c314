package folder

import (
	"io/fs"
	"os"
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
	return stateFrom(&st), nil
}

// looker tells the state of an open file as often as it is called.
func looker(file *os.File) func() (state, error) {
	fd := int(file.Fd())
	return func() (state, error) {
		var st unix.Stat_t
		for {
			err := unix.Fstat(fd, &st)
			if err == nil {
				return stateFrom(&st), nil
			}
			if err != unix.EINTR {
				return state{}, err
			}
		}
	}
}

func stateFrom(st *unix.Stat_t) state {
	return state{device: uint64(st.Dev), inode: st.Ino, size: st.Size, modified: st.Mtim.Nano(), status: st.Ctim.Nano()}
}

func stateOf(info fs.FileInfo) state {
	s := state{size: info.Size(), modified: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.device, s.inode, s.status = uint64(st.Dev), st.Ino, st.Ctim.Nano()
	}
	return s
}
