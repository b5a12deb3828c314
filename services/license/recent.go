package license

import (
	"crypto/sha256"
	"sync"
)

// recent remembers the last licences added, by their hash. Safe for concurrent
// use.
type recent struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]struct{}
	order [][sha256.Size]byte // a ring once it is full
	next  int
	cap   int
}

func newRecent(capacity int) *recent {
	return &recent{known: make(map[[sha256.Size]byte]struct{}), cap: capacity}
}

// add says whether the licence is new.
func (r *recent) add(license string) bool {
	k := sha256.Sum256([]byte(license))
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.known[k]; ok {
		return false
	}
	if len(r.order) < r.cap {
		r.order = append(r.order, k)
	} else {
		delete(r.known, r.order[r.next])
		r.order[r.next] = k
		r.next = (r.next + 1) % r.cap
	}
	r.known[k] = struct{}{}
	return true
}

func (r *recent) has(license string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.known[sha256.Sum256([]byte(license))]
	return ok
}
