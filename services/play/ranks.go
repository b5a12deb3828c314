package play

import (
	"slices"
	"sync"

	"github.com/flix-lab/flix/services/steering/steeringpb"
)

// rankCapacity bounds the rankings an instance keeps.
const rankCapacity = 4096

// rankKey is what a ranking depends on most: where the client is and what it
// wants.
type rankKey struct{ isp, country, title string }

// ranks are the last rankings that steering gave, the oldest of them gone when
// there are too many. Safe for concurrent use.
type ranks struct {
	mu    sync.Mutex
	last  map[rankKey]*steeringpb.RankReply
	order []rankKey // a ring once it is full
	next  int
	cap   int
}

func newRanks(capacity int) *ranks {
	return &ranks{last: make(map[rankKey]*steeringpb.RankReply), cap: capacity}
}

// keep remembers a ranking; an empty one is not worth it.
func (r *ranks) keep(k rankKey, reply *steeringpb.RankReply) {
	if len(reply.GetCandidates()) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.last[k]; !ok {
		if len(r.order) < r.cap {
			r.order = append(r.order, k)
		} else {
			delete(r.last, r.order[r.next])
			r.order[r.next] = k
			r.next = (r.next + 1) % r.cap
		}
	}
	r.last[k] = reply
}

// without returns the ranking less the appliances that the client knows are
// broken; nil if nothing is left.
func (r *ranks) without(k rankKey, broken []string) *steeringpb.RankReply {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := r.last[k]
	out := &steeringpb.RankReply{}
	for _, c := range kept.GetCandidates() {
		if !slices.Contains(broken, c.GetAppliance()) {
			out.Candidates = append(out.Candidates, c)
		}
	}
	if len(out.Candidates) == 0 {
		return nil
	}
	return out
}
