package embedded

import (
	"strings"

	"github.com/cockroachdb/pebble/vfs"
)

// pageCacheFS is a file system whose write-ahead log counts as written once
// the kernel has it.
//
// An acknowledged write must survive a SIGKILL of the process, not the loss of
// the machine, and the page cache does survive the former: no fsync is needed
// on the way of a write, and a lab of many stores on one disk could not afford
// it. Committing without sync would not do, though: Pebble then leaves the
// record in its own buffer until 32 KiB have gathered. So commits ask for a
// sync, which makes Pebble write(2) the log, and the sync itself does nothing.
// Tables and the manifest are synced as ever, so that a store opens after a
// loss of power too, with its log cut somewhere in the last seconds.
type pageCacheFS struct{ vfs.FS }

const walSuffix = ".log"

// Create implements vfs.FS.
func (fs pageCacheFS) Create(name string) (vfs.File, error) {
	return wrapWAL(name)(fs.FS.Create(name))
}

// ReuseForWrite implements vfs.FS.
func (fs pageCacheFS) ReuseForWrite(oldname, newname string) (vfs.File, error) {
	return wrapWAL(newname)(fs.FS.ReuseForWrite(oldname, newname))
}

func wrapWAL(name string) func(vfs.File, error) (vfs.File, error) {
	return func(f vfs.File, err error) (vfs.File, error) {
		if err != nil || !strings.HasSuffix(name, walSuffix) {
			return f, err
		}
		return walFile{f}, nil
	}
}

// walFile is a log segment that is never synced.
type walFile struct{ vfs.File }

// Sync implements vfs.File.
func (walFile) Sync() error { return nil }

// SyncData implements vfs.File.
func (walFile) SyncData() error { return nil }

// SyncTo implements vfs.File.
func (walFile) SyncTo(int64) (bool, error) { return false, nil }
