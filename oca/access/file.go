package access

import (
	"errors"
	"os"
)

// File is a log file in a folder that keeps one predecessor: NAME grows to at
// most max bytes, then becomes NAME.1. Not safe for concurrent use.
type File struct {
	root *os.Root
	name string
	max  int64
	f    *os.File
	size int64
}

// OpenFile opens or makes a log file.
func OpenFile(root *os.Root, name string, max int64) (*File, error) {
	w := &File{root: root, name: name, max: max}
	return w, w.open()
}

func (w *File) open() error {
	f, err := w.root.OpenFile(w.name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	w.f, w.size = f, info.Size()
	return nil
}

// Write implements io.Writer.
func (w *File) Write(b []byte) (int, error) {
	if w.f == nil || w.size > 0 && w.size+int64(len(b)) > w.max {
		if err := w.turn(); err != nil {
			return 0, err
		}
	}
	n, err := w.f.Write(b)
	w.size += int64(n)
	return n, err
}

// turn begins a new file.
func (w *File) turn() error {
	if w.f != nil {
		w.f.Close()
		w.f = nil
		if err := w.root.Rename(w.name, w.name+".1"); err != nil {
			return errors.Join(err, w.open())
		}
	}
	return w.open()
}

// Close closes the file.
func (w *File) Close() error {
	if w.f == nil {
		return nil
	}
	return w.f.Close()
}
