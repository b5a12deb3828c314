package folder

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/flix-lab/flix/oca/wire"
	"github.com/flix-lab/flix/services"
)

// maxOpen is how many files are kept open between requests at most.
const maxOpen = 1024

// files keeps the descriptors of files that were asked for. An entry is used
// only while the name still leads to the very same state of the same file.
// Safe for concurrent use.
type files struct {
	root *os.Root
	dir  *os.File // the folder itself, to look names up from
	fd   int      // of dir
	meta func(path string, size int64, etag string, modified time.Time) *wire.Meta
	now  func() time.Time

	most int // that are kept open

	mu   sync.RWMutex
	open map[string]*entry
}

// entry is an open file and the state it was in.
type entry struct {
	file *wire.File
	state
	// content is a digest of the bytes while the clock of the file system
	// could not tell another write from this one; zero later.
	content uint64
	racy    atomic.Bool
}

// state tells one state of one file from all others, as far as the file
// system's clock goes.
type state struct {
	device, inode    uint64
	size             int64
	modified, status int64 // nanoseconds of mtime and ctime
}

// unharmed says whether the bytes that an answer promised are there as they were,
// as far as a file's times and size tell: what is added to its end does no harm.
func (s state) unharmed(now state) bool {
	return now.size > s.size || now.size == s.size && now.modified == s.modified
}

func openFiles(dir string, now func() time.Time, most int) (*files, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	self, err := root.Open(".")
	if err != nil {
		root.Close()
		return nil, err
	}
	return &files{root: root, dir: self, fd: int(self.Fd()), now: now, most: most, open: map[string]*entry{}}, nil
}

func (f *files) close() {
	f.forgetAll()
	f.dir.Close()
	f.root.Close()
}

// get returns the file of a name relative to the folder, for the caller to
// release. Errors are NotFound, Denied and Unavailable.
func (f *files) get(name string, slow func()) (*wire.File, error) {
	f.mu.RLock()
	e := f.open[name]
	var kept *wire.File
	if e != nil && e.file.Acquire() {
		kept = e.file
	}
	f.mu.RUnlock()
	if kept != nil {
		if now, err := f.look(name); err == nil && now == e.state && (!e.racy.Load() || f.settled(e)) {
			return kept, nil
		}
		kept.Release()
		f.forget(name, e)
	}
	slow()
	return f.load(name)
}

func (f *files) forget(name string, e *entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open[name] == e {
		delete(f.open, name)
		e.file.Release()
	}
}

// forgetAll gives back the descriptors of the files that nobody is sent.
func (f *files) forgetAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, e := range f.open {
		delete(f.open, name)
		e.file.Release()
	}
}

// load opens a file and keeps it.
func (f *files) load(name string) (*wire.File, error) {
	// Not to wait for the writer of a named pipe.
	file, err := f.root.OpenFile(name, os.O_RDONLY|nonblock, 0)
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		f.forgetAll()
		file, err = f.root.OpenFile(name, os.O_RDONLY|nonblock, 0)
	}
	if err != nil {
		return nil, refusal(err)
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, refusal(err)
	}
	if !info.Mode().IsRegular() {
		file.Close()
		return nil, notFound()
	}
	e := &entry{state: stateOf(info)}
	if f.recent(e.state) {
		e.racy.Store(true)
		if e.content, err = digest(file, e.size); err != nil {
			file.Close()
			return nil, services.Errorf(services.Unavailable, "the file changed while it was read").WithReason("changed")
		}
	}
	e.file = wire.NewFile(file, f.meta(name, e.size, e.etag(), info.ModTime()), nil)
	look := looker(file)
	e.file.Guard(func() bool {
		now, err := look()
		return err == nil && e.unharmed(now)
	})
	e.file.Acquire()
	f.mu.Lock()
	defer f.mu.Unlock()
	if old := f.open[name]; old != nil {
		old.file.Release()
	}
	for other, old := range f.open {
		if len(f.open) < f.most {
			break
		}
		delete(f.open, other)
		old.file.Release()
	}
	f.open[name] = e
	return e.file, nil
}

func notFound() error {
	return services.Errorf(services.NotFound, "there is no such file").WithReason("no_file")
}

// refusal hides why a name leads nowhere: a link that leads out of the folder
// is no different from none.
func refusal(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return services.Errorf(services.Denied, "the file may not be read").WithReason("permission")
	}
	if number := syscall.Errno(0); errors.As(err, &number) && !slices.Contains(nowhere, number) {
		return services.Errorf(services.Unavailable, "the file cannot be opened now: %v", number).WithReason("cannot_open").WithRemedy("try again later")
	}
	return notFound()
}

// nowhere is how the kernel says that a name leads to nothing that can be served.
// Whatever else it says (no descriptor left, a failing disk) is not the name's fault.
var nowhere = []syscall.Errno{syscall.ENOENT, syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.EINVAL, syscall.ENXIO, syscall.ENODEV, syscall.EXDEV}

// relative turns the path of a URL into a name in the folder; "" if it is
// none. A folder stands for its index.html.
func relative(url string) string {
	name := strings.TrimPrefix(url, "/")
	if name == "" || strings.HasSuffix(name, "/") {
		name += "index.html"
	}
	// Names are bytes (fs.ValidPath asks for UTF-8).
	if !filepath.IsLocal(name) || path.Clean(name) != name || strings.ContainsAny(name, "\\\x00") {
		return ""
	}
	return name
}
