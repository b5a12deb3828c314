package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/vfs"
)

// files is the file system of a store; it decides when what was written has to
// be on the disk and not only with the kernel.
//
// An acknowledged write must survive a SIGKILL of the process, not the loss of
// the machine, and the page cache does survive the former: no fsync is needed
// on the way of a write, and a lab of many stores on one disk could not afford
// it. Committing without sync would not do, though: Pebble then leaves the
// record in its own buffer until 32 KiB have gathered. So commits ask for a
// sync, which makes Pebble write(2) its log, and syncing a log does nothing.
//
// Tables and the manifest are synced, so that a store opens after a loss of
// power too, with its log cut somewhere in the last seconds. While the store
// opens, which is most of the time that its start takes, those syncs are only
// noted; settle does them when the store serves.
type files struct {
	vfs.FS

	mu      sync.Mutex
	settled bool
	owed    map[string]bool // name → it is a directory
}

func newFiles() *files { return &files{FS: vfs.Default, owed: map[string]bool{}} }

// Create implements vfs.FS.
func (f *files) Create(name string) (vfs.File, error) { return f.wrap(name, false)(f.FS.Create(name)) }

// ReuseForWrite implements vfs.FS.
func (f *files) ReuseForWrite(oldname, newname string) (vfs.File, error) {
	return f.wrap(newname, false)(f.FS.ReuseForWrite(oldname, newname))
}

// OpenDir implements vfs.FS.
func (f *files) OpenDir(name string) (vfs.File, error) { return f.wrap(name, true)(f.FS.OpenDir(name)) }

// Rename implements vfs.FS.
func (f *files) Rename(oldname, newname string) error {
	f.mu.Lock()
	if dir, ok := f.owed[oldname]; ok {
		delete(f.owed, oldname)
		f.owed[newname] = dir
	}
	f.mu.Unlock()
	return f.FS.Rename(oldname, newname)
}

const walSuffix = ".log"

func (f *files) wrap(name string, dir bool) func(vfs.File, error) (vfs.File, error) {
	return func(file vfs.File, err error) (vfs.File, error) {
		switch {
		case err != nil:
			return nil, err
		case strings.HasSuffix(name, walSuffix):
			return walFile{file}, nil
		}
		return owingFile{File: file, files: f, name: name, dir: dir}, nil
	}
}

// owe notes a sync for later; false when it is to be done now.
func (f *files) owe(name string, dir bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.settled {
		return false
	}
	f.owed[name] = dir
	return true
}

// settle does the syncs that are owed; from then on each is done at once.
func (f *files) settle() error {
	f.mu.Lock()
	owed := f.owed
	f.owed, f.settled = nil, true
	f.mu.Unlock()
	for _, dirs := range []bool{false, true} { // contents before names
		for name, dir := range owed {
			if dir != dirs {
				continue
			}
			if err := f.sync(name, dir); err != nil {
				return fmt.Errorf("sync %s: %w", name, err)
			}
		}
	}
	return nil
}

func (f *files) sync(name string, dir bool) error {
	open := func() (vfs.File, error) { return f.FS.Open(name) }
	if dir {
		open = func() (vfs.File, error) { return f.FS.OpenDir(name) }
	}
	file, err := open()
	if errors.Is(err, fs.ErrNotExist) { // removed since: nothing to keep
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// walFile is a log segment, which is never synced.
type walFile struct{ vfs.File }

// Sync implements vfs.File.
func (walFile) Sync() error { return nil }

// SyncData implements vfs.File.
func (walFile) SyncData() error { return nil }

// SyncTo implements vfs.File.
func (walFile) SyncTo(int64) (bool, error) { return false, nil }

// owingFile is synced at once or, while the store opens, later.
type owingFile struct {
	vfs.File
	files *files
	name  string
	dir   bool
}

// Sync implements vfs.File.
func (o owingFile) Sync() error {
	if o.files.owe(o.name, o.dir) {
		return nil
	}
	return o.File.Sync()
}

// SyncData implements vfs.File.
func (o owingFile) SyncData() error {
	if o.files.owe(o.name, o.dir) {
		return nil
	}
	return o.File.SyncData()
}

// SyncTo implements vfs.File.
func (o owingFile) SyncTo(length int64) (bool, error) {
	if o.files.owe(o.name, o.dir) {
		return false, nil
	}
	return o.File.SyncTo(length)
}
