package events

import "sync"

// Seen remembers the last ids it was told, so that a consumer can drop an
// event that was delivered twice. It is safe for concurrent use.
type Seen struct {
	mu   sync.Mutex
	ids  map[string]struct{}
	ring []string
	next int
}

// NewSeen remembers up to n ids; the oldest is forgotten for the newest.
func NewSeen(n int) *Seen {
	n = max(n, 1)
	return &Seen{ids: make(map[string]struct{}), ring: make([]string, 0, n)}
}

// Has says whether the id was added and is still remembered.
func (s *Seen) Has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.ids[id]
	return ok
}

// Add remembers an id and says whether it is new. Add it after the event has
// been handled: an event whose handling failed comes again and must pass.
func (s *Seen) Add(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.ids[id]; ok {
		return false
	}
	if len(s.ring) < cap(s.ring) {
		s.ring = append(s.ring, id)
	} else {
		delete(s.ids, s.ring[s.next])
		s.ring[s.next] = id
		s.next = (s.next + 1) % len(s.ring)
	}
	s.ids[id] = struct{}{}
	return true
}
