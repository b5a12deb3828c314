package steering

import (
	"net/netip"
	"sync/atomic"
)

// sampleSize is how many decisions are kept; a power of two.
const sampleSize = 4096

// sample keeps some of the latest decisions: who asked for what. Each costs one
// small object, so that only one in sampleEvery is kept.
type sample struct {
	n    atomic.Uint64
	ring [sampleSize]atomic.Pointer[asked]
}

// sampleEvery decisions one is kept.
const sampleEvery = 8

type asked struct {
	addr  netip.Addr
	title string
}

func (s *sample) add(addr netip.Addr, title string) {
	n := s.n.Add(1) - 1
	// All of the first ones, so that a quiet lab has a sample, too.
	if n >= sampleSize && n%sampleEvery != 0 {
		return
	}
	at := n
	if n >= sampleSize {
		at = n / sampleEvery
	}
	s.ring[at%sampleSize].Store(&asked{addr, title})
}

// list returns what is kept.
func (s *sample) list() []asked {
	var out []asked
	for i := range s.ring {
		if a := s.ring[i].Load(); a != nil {
			out = append(out, *a)
		}
	}
	return out
}
