package cachecontrol

import (
	"time"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// pace is how fast an appliance filled of late, by its own counters.
type pace struct {
	total uint64
	at    time.Time
	bps   float64
}

// see takes the counters of a report made at a time.
func (r *pace) see(f *pb.FillBytes, at time.Time) {
	total := filledTotal(f)
	took := at.Sub(r.at)
	switch {
	case r.at.IsZero() || total < r.total: // the first one, or of another life
		r.bps = 0
	case took <= 0:
		return
	default:
		now := float64(total-r.total) * 8 / took.Seconds()
		if r.bps == 0 || now == 0 {
			r.bps = now
		} else { // half of what it was: reports are few and fills uneven
			r.bps = (r.bps + now) / 2
		}
	}
	r.total, r.at = total, at
}

// rateOf returns an appliance's fill rate in bits per second.
func (s *Server) rateOf(n *node) uint64 {
	if a := s.appliances[n.id]; a != nil {
		return uint64(a.pace.bps)
	}
	return 0
}
