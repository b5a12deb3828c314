//go:build !linux

package folder

import (
	"io/fs"
	"os"
)

const nonblock = 0

// look tells the state of the file that a name leads to.
func (f *files) look(name string) (state, error) {
	info, err := f.root.Stat(name)
	if err != nil {
		return state{}, err
	}
	return stateOf(info), nil
}

// looker tells the state of an open file as often as it is called.
func looker(file *os.File) func() (state, error) {
	return func() (state, error) {
		info, err := file.Stat()
		if err != nil {
			return state{}, err
		}
		return stateOf(info), nil
	}
}

func stateOf(info fs.FileInfo) state {
	return state{size: info.Size(), modified: info.ModTime().UnixNano()}
}
