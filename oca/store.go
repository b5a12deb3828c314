package oca

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flix-lab/flix/oca/wire"
	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// What lies in an appliance's folder.
const (
	objectsDir    = "objects"    // objects/<sha256>: the bytes
	probeFile     = "probe"      // written to see whether the disk takes writes
	tempDir       = "tmp"        // files being received; swept at start
	quarantineDir = "quarantine" // damaged files, the newest few
	indexName     = "index.log"
	newIndexName  = "index.log.new"
	// maxQuarantine bounds the damaged files kept for a look.
	maxQuarantine = 8
)

// change says what was stored or removed; exactly one of held and removed.
type change struct {
	held    []*pb.HeldFile
	removed []*pb.HeldFile
	source  pb.Source
	reason  string
	filled  fillBytes
}

// store is the files of an appliance: content-addressed objects, and an
// append-only log that gives them names. A file has its name only after its
// bytes are in place and verified, and loses its name before its bytes go, so
// a kill at any moment leaves at worst bytes without a name, which the next
// start sweeps. Safe for concurrent use.
type store struct {
	root     *os.Root
	fsync    bool
	capacity uint64
	// onChange hears of every change in order, under the lock: it must not
	// block or call back.
	onChange func(change)
	// filled counts over the appliance's life. It reaches the log with the
	// next file, so a kill loses at most what came since.
	filled fillCounters

	mu       sync.RWMutex
	files    map[ref]entry
	objects  map[sum]*object
	versions map[string]map[uint64]int // title → version → files stored
	used     uint64                    // bytes of objects
	reserved uint64                    // bytes of files being received
	epoch    uint64
	log      *os.File
	torn     bool // the last append may have left half a line
	temps    uint64
	// handles are files kept open for answers, receiving those on their way.
	handles   map[ref]*wire.File
	receiving map[ref]*receiver
	// patience is how long a reader waits for a byte that has to arrive.
	patience time.Duration
	// fault is an injected fault of the disk.
	fault func() DiskFault
}

// object is the bytes of one or more files.
type object struct {
	size uint64
	refs map[ref]struct{}
}

type storeConfig struct {
	dir      string
	capacity uint64
	// fsync makes a file durable before it is named; without it a file
	// survives the process but maybe not the machine.
	fsync bool
	now   time.Time
	// patience is how long a reader waits for a byte of a file being received.
	patience time.Duration
}

// openStore opens the folder, making it if need be, and drops from the index
// what the disk does not have.
func openStore(c storeConfig) (*store, error) {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	root, err := os.OpenRoot(c.dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &store{root: root, fsync: c.fsync, capacity: c.capacity, onChange: func(change) {}, fault: func() DiskFault { return DiskFault{} }, objects: map[sum]*object{}, versions: map[string]map[uint64]int{},
		handles: map[ref]*wire.File{}, receiving: map[ref]*receiver{}, patience: c.patience}
	if err := s.load(c.now); err != nil {
		root.Close()
		return nil, fmt.Errorf("open store %s: %w", c.dir, err)
	}
	return s, nil
}

func (s *store) load(now time.Time) error {
	if err := s.root.RemoveAll(tempDir); err != nil {
		return err
	}
	for _, d := range []string{objectsDir, tempDir, partialDir, quarantineDir} {
		if err := s.root.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	if err := s.trimPartial(); err != nil {
		return err
	}
	raw, err := s.root.ReadFile(indexName)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	st := readIndex(raw)
	s.files = st.files
	s.filled.set(st.filled)
	// Counters of messages must grow even over a wiped folder, so they start
	// from the clock; and over a clock that went back, so from the last epoch.
	s.epoch = max(st.epoch+1, uint64(now.UnixMilli())) // in units of 2^20 messages
	stale := 0
	for r, e := range s.files {
		info, err := s.root.Stat(e.sum.objectPath())
		if err != nil || uint64(info.Size()) != e.size {
			delete(s.files, r)
			stale++
			continue
		}
		s.link(r, e)
	}
	if err := s.sweepObjects(); err != nil {
		return err
	}
	if st.damaged > 0 || stale > 0 || st.lines > 2*len(s.files)+64 {
		return s.compact()
	}
	if err := s.openLog(); err != nil {
		return err
	}
	return s.append(record{Op: opEpoch, Epoch: s.epoch})
}

// link counts a name of an object.
func (s *store) link(r ref, e entry) {
	o := s.objects[e.sum]
	if o == nil {
		o = &object{size: e.size, refs: map[ref]struct{}{}}
		s.objects[e.sum] = o
		s.used += e.size
	}
	o.refs[r] = struct{}{}
	s.files[r] = e
	s.count(r, 1)
}

// count keeps the number of files stored of each version of a title.
func (s *store) count(r ref, by int) {
	v := s.versions[r.title]
	if v == nil {
		v = map[uint64]int{}
		s.versions[r.title] = v
	}
	if v[r.version] += by; v[r.version] == 0 {
		delete(v, r.version)
	}
	if len(v) == 0 {
		delete(s.versions, r.title)
	}
}

// sweepObjects removes bytes without a name.
func (s *store) sweepObjects() error {
	entries, err := fs.ReadDir(s.root.FS(), objectsDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if digest, ok := parseSum(e.Name()); ok && s.objects[digest] != nil {
			continue
		}
		if err := s.root.RemoveAll(objectsDir + "/" + e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// compact writes the index anew and puts it in the old one's place at once.
func (s *store) compact() error {
	b := appendRecord(nil, record{Op: opEpoch, Epoch: s.epoch})
	b = appendRecord(b, fillRecord(s.filled.load()))
	refs := make([]ref, 0, len(s.files))
	for r := range s.files {
		refs = append(refs, r)
	}
	slices.SortFunc(refs, func(a, b ref) int { return strings.Compare(a.String(), b.String()) })
	for _, r := range refs {
		b = appendRecord(b, putRecord(r, s.files[r]))
	}
	f, err := s.root.OpenFile(newIndexName, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil && s.fsync {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := s.root.Rename(newIndexName, indexName); err != nil {
		return err
	}
	return s.openLog()
}

func (s *store) openLog() (err error) {
	s.log, err = s.root.OpenFile(indexName, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	return err
}

// append adds records to the log in one write.
func (s *store) append(records ...record) error {
	var b []byte
	if s.torn {
		b = append(b, '\n')
	}
	for _, r := range records {
		b = appendRecord(b, r)
	}
	if _, err := s.log.Write(b); err != nil {
		s.torn = true
		return fmt.Errorf("index log: %w", err)
	}
	s.torn = false
	if s.fsync {
		return s.log.Sync()
	}
	return nil
}

// close releases the folder. Files that are open stay readable.
func (s *store) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := range s.handles {
		s.letGo(r)
	}
	return errors.Join(s.log.Close(), s.root.Close())
}

// open returns a stored file for reading. Errors are NotFound, with reason
// "superseded" when only another version of the title is stored, and Unavailable
// where a file cannot be opened for the moment.
func (s *store) open(r ref) (*os.File, entry, error) {
	s.mu.RLock()
	e, ok := s.files[r]
	superseded := len(s.versions[r.title]) > 0 && s.versions[r.title][r.version] == 0
	s.mu.RUnlock()
	if !ok {
		err := notStored(r)
		if superseded {
			err = err.WithReason(reasonSuperseded).WithRemedy("ask the play API for the current version")
		}
		return nil, entry{}, err
	}
	f, err := s.root.Open(e.sum.objectPath())
	if err != nil {
		kind := services.Unavailable // for the moment: no descriptor is left, the disk fails
		if errors.Is(err, fs.ErrNotExist) {
			kind = services.NotFound
		}
		return nil, e, &services.Error{Kind: kind, Reason: reasonLost, Msg: r.String() + " cannot be read", Err: err}
	}
	if info, err := f.Stat(); err != nil || uint64(info.Size()) != e.size {
		f.Close()
		return nil, e, services.Errorf(services.NotFound, "%s has the wrong size on disk", r).WithReason(reasonLost)
	}
	return f, e, nil
}

// stored is one object and its names.
type stored struct {
	sum  sum
	size uint64
	refs []ref
}

// list returns every object.
func (s *store) list() []stored {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]stored, 0, len(s.objects))
	for digest, o := range s.objects {
		st := stored{sum: digest, size: o.size}
		for r := range o.refs {
			st.refs = append(st.refs, r)
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b stored) int { return slices.Compare(a.sum[:], b.sum[:]) })
	return out
}

// snapshot calls f with everything stored, under the lock: a change is either
// in it or told to onChange afterwards.
func (s *store) snapshot(f func(files []*pb.HeldFile, filled fillBytes)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	files := make([]*pb.HeldFile, 0, len(s.files))
	for r, e := range s.files {
		files = append(files, e.message(r))
	}
	f(files, s.filled.load())
}

// usage returns the bytes and files stored, and the bytes received by source.
func (s *store) usage() (used uint64, files int, filled fillBytes) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.used, len(s.files), s.filled.load()
}

// writable proves that the disk takes a write.
func (s *store) writable() error {
	if err := s.fault().write(); err != nil {
		return err
	}
	// One file, written over: making and removing one each time costs far more.
	f, err := s.root.OpenFile(probeFile, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte("probe\n"), 0)
	return errors.Join(err, f.Close())
}
