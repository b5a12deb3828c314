package playback

import "sync"

// report identifies a report of a player.
type report struct {
	session  string
	sequence uint64
}

// seen remembers the last reports taken, so that one sent twice is taken once.
// It is bounded and this instance's own: consumers of the pipeline drop what
// slips through, by the event's id. Safe for concurrent use.
type seen struct {
	mu    sync.Mutex
	known map[report]struct{}
	order []report // a ring once it is full
	next  int
	cap   int
}

func newSeen(capacity int) *seen {
	return &seen{known: make(map[report]struct{}), cap: capacity}
}

func (s *seen) has(r report) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.known[r]
	return ok
}

func (s *seen) add(r report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.known[r]; ok {
		return
	}
	if len(s.order) < s.cap {
		s.order = append(s.order, r)
	} else {
		delete(s.known, s.order[s.next])
		s.order[s.next] = r
		s.next = (s.next + 1) % s.cap
	}
	s.known[r] = struct{}{}
}
