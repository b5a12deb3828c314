//go:build !linux

package folder

import "io/fs"

const nonblock = 0

// look tells the state of the file that a name leads to.
func (f *files) look(name string) (state, error) {
	info, err := f.root.Stat(name)
	if err != nil {
		return state{}, err
	}
	return stateOf(info), nil
}

func stateOf(info fs.FileInfo) state {
	return state{size: info.Size(), modified: info.ModTime().UnixNano()}
}
