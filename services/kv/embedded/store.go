package embedded

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble"
)

// Sizes are for a lab of many stores on one machine: a few thousand cells, hot
// ones in memory.
const (
	memTableSize = 1 << 20
	cacheSize    = 1 << 20
	maxOpenFiles = 64
	lockStripes  = 64
)

// store is the Pebble database with what serialises writes to it.
type store struct {
	db    *pebble.DB
	files *files
	// id is drawn when the directory is made; a peer that sees another one
	// knows that everything it has sent is gone.
	id   string
	seed maphash.Seed
	// stripes serialise the writes of a partition; see lock.
	stripes [lockStripes]sync.Mutex
	broken  *broken

	// open is held for reading by those who may outlive Serve, such as a
	// scrape of the metrics: Pebble panics when it is read after its end.
	open   sync.RWMutex
	closed bool
}

// close ends the database.
func (s *store) close() error {
	s.open.Lock()
	defer s.open.Unlock()
	s.closed = true
	return s.db.Close()
}

// while runs f unless the database has ended.
func (s *store) while(f func()) {
	s.open.RLock()
	defer s.open.RUnlock()
	if !s.closed {
		f()
	}
}

// broken remembers that Pebble met an error it cannot go on from.
type broken struct {
	log  *slog.Logger
	err  atomic.Pointer[error]
	once sync.Once
	ch   chan struct{}
}

// Infof implements pebble.Logger; compaction chatter is of no use here.
func (*broken) Infof(string, ...any) {}

// Fatalf implements pebble.Logger. Pebble expects the process to end; a store
// is one of many instances in its process, so it only ends itself: writes are
// refused from now on and Serve returns.
func (b *broken) Fatalf(format string, args ...any) {
	b.once.Do(func() {
		err := fmt.Errorf(format, args...)
		b.log.Error("store is broken", "err", err)
		b.err.Store(&err)
		close(b.ch)
	})
}

func (b *broken) cause() error {
	if p := b.err.Load(); p != nil {
		return *p
	}
	return nil
}

func openStore(dir string, log *slog.Logger) (*store, error) {
	b := &broken{log: log, ch: make(chan struct{})}
	fs := newFiles()
	cache := pebble.NewCache(cacheSize)
	defer cache.Unref()
	opts := &pebble.Options{
		FS: fs, Logger: b, Cache: cache,
		MemTableSize: memTableSize, MaxOpenFiles: maxOpenFiles,
		// Later formats bring nothing that is used here, and a new store would
		// climb to them one synced step at a time.
		FormatMajorVersion:       pebble.FormatMostCompatible,
		MaxConcurrentCompactions: func() int { return 1 },
	}
	opts.Experimental.TableCacheShards = 1
	db, err := pebble.Open(dir, opts)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	s := &store{db: db, files: fs, seed: maphash.MakeSeed(), broken: b}
	if s.id, err = s.identity(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// identity reads the store's id and draws it the first time.
func (s *store) identity() (string, error) {
	v, ok, err := s.get(metaKey("store"))
	if err != nil || ok {
		return string(v), err
	}
	var raw [8]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", fmt.Errorf("draw a store id: %w", err)
	}
	id := hex.EncodeToString(raw[:])
	return id, s.db.Set(metaKey("store"), []byte(id), pebble.Sync)
}

// get copies a value out of the database.
func (s *store) get(key []byte) ([]byte, bool, error) {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read: %w", err)
	}
	out := slices.Clone(v)
	return out, true, closer.Close()
}

// cell reads the cell under a key, tombstones and expired ones included.
func (s *store) cell(key []byte) (cell, bool, error) {
	v, ok, err := s.get(key)
	if err != nil || !ok {
		return cell{}, false, err
	}
	c, err := decodeCell(v)
	return c, err == nil, err
}

// lock takes the stripes of some partitions, in one order for everybody, and
// returns what releases them. Prefixes are partitionKey values.
func (s *store) lock(prefixes ...[]byte) (unlock func()) {
	var want [lockStripes]bool
	for _, p := range prefixes {
		want[maphash.Bytes(s.seed, p)%lockStripes] = true
	}
	for i := range want {
		if want[i] {
			s.stripes[i].Lock()
		}
	}
	return func() {
		for i := range want {
			if want[i] {
				s.stripes[i].Unlock()
			}
		}
	}
}
