package oca

import (
	"syscall"
	"time"

	"github.com/flix-lab/flix/oca/wire"
	"github.com/flix-lab/flix/services"
)

// maxHandles is how many stored files stay open between requests.
const maxHandles = 1024

// cacheForever goes with stored files: a name has a version in it.
const cacheForever = "public, max-age=31536000, immutable"

// acquire returns a stored file, or one being received as far as it has come,
// for the caller to release. Errors are those of open.
func (s *store) acquire(r ref) (*wire.File, entry, error) {
	s.mu.RLock()
	e, ok := s.files[r]
	h := s.handles[r]
	if h != nil && !h.Acquire() {
		h = nil
	}
	s.mu.RUnlock()
	if h != nil {
		if intact(h) {
			return h, e, nil
		}
		h.Release()
		s.mu.Lock()
		s.letGo(r)
		s.mu.Unlock()
	}
	if !ok {
		if f := s.incoming(r); f != nil {
			return f, entry{}, nil
		}
	}
	f, e, err := s.open(r)
	if err != nil {
		return nil, e, err
	}
	h = wire.NewFile(f, metaOf(r, e), nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	if now, ok := s.files[r]; ok && now == e && s.handles[r] == nil {
		for other := range s.handles {
			if len(s.handles) < maxHandles {
				break
			}
			s.letGo(other)
		}
		h.Acquire()
		s.handles[r] = h
	}
	return h, e, nil
}

// letGo closes the kept descriptor of a name once nobody sends from it. Called
// with the lock held.
func (s *store) letGo(r ref) {
	if h := s.handles[r]; h != nil {
		delete(s.handles, r)
		h.Release()
	}
}

// spoil breaks off the answers that send a file found to be bad. Called with
// the lock held.
func (s *store) spoil(r ref) {
	if h := s.handles[r]; h != nil {
		h.Spoil()
	}
}

// intact says whether the bytes behind a kept descriptor still lie in the
// store, as many as there were.
func intact(f *wire.File) bool {
	info, err := f.Stat()
	if err != nil || info.Size() != f.Size {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return !ok || st.Nlink > 0
}

func metaOf(r ref, e entry) *wire.Meta {
	return wire.NewMeta(int64(e.size), `"`+e.sum.String()+`"`, time.Time{}, contentType(r.path), cacheForever)
}

// Reasons of answers to clients.
const (
	reasonSuperseded = "superseded"
	reasonLost       = "lost"
)

func notStored(r ref) *services.Error {
	return services.Errorf(services.NotFound, "%s is not stored here", r)
}
