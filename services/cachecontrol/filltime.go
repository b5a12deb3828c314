package cachecontrol

import (
	"time"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/topology"
)

// never is the ETA of what does not come as things are.
const never = -1

// fillTime says how long some appliances take for what they lack: at the rate
// of late, and at least. The lower bound is the largest of what follows from
// each line alone: an appliance can take no more than its fill bandwidth; what
// nobody in a region holds passes through the exchange's appliances; and every
// other byte is sent by an appliance of the region. (For a broadcast of F bytes
// to N receivers from a source of capacity C: max(F/C, F/min d, N·F/(C+Σu)),
// Mundinger, Weber and Weiss 2008; the object stores' capacity is not known
// here, so their term is that of who fetches from them.)
func (p *planner) fillTime(nodes []*node, rate func(*node) uint64, now time.Time) *pb.FillTime {
	t := &pb.FillTime{}
	regions := map[string]*regionFill{}
	for _, n := range nodes {
		_, bytes := n.missing(p)
		r := regions[n.site.region]
		if r == nil {
			r = &regionFill{}
			regions[n.site.region] = r
		}
		if bytes == 0 {
			continue
		}
		t.MissingBytes += bytes
		r.missing += bytes
		n.assigned.files.each(n.held, func(f int32) { r.lacked.set(p.cat.bySum[p.cat.files[f].sum][0]) })
		bound(t, bytes, n.fill, n.id)
		got := rate(n)
		t.RateBps += got
		eta := lineTime(bytes, n.fill)
		if got > 0 {
			eta = lineTime(bytes, got)
		}
		if p.blocked(n, false, now) != "" {
			eta = never
		}
		if eta == never || t.EtaMs == never {
			t.EtaMs = never
		} else {
			t.EtaMs = max(t.EtaMs, eta)
		}
	}
	for name, r := range regions {
		p.boundRegion(t, name, r)
	}
	if t.EtaMs != never {
		t.EtaMs = max(t.EtaMs, t.BoundMs)
	}
	return t
}

// regionFill is what a region's appliances lack.
type regionFill struct {
	missing uint64
	lacked  bitset // contents, by the first number of each
}

func (p *planner) boundRegion(t *pb.FillTime, region string, r *regionFill) {
	var outside, into, up uint64 // bytes from object stores; bits per second
	exchange := false
	for _, s := range p.near[region] {
		for _, n := range s.nodes {
			if n.presence == absent {
				continue
			}
			up += n.fill
			if s.kind == topology.SiteExchange {
				exchange = true
				into += n.fill
			}
		}
	}
	r.lacked.each(nil, func(f int32) {
		if !p.heldIn(region, p.cat.files[f].sum) {
			outside += p.cat.files[f].file.GetSize()
		}
	})
	t.OriginBytes += outside
	if exchange {
		bound(t, outside, into, "the exchange of "+region)
	}
	bound(t, r.missing-min(r.missing, outside), up, "the uploads in "+region)
}

// heldIn says whether an appliance of a region could give a content.
func (p *planner) heldIn(region string, sum checksum) bool {
	for _, s := range p.near[region] {
		for _, n := range s.nodes {
			if !n.serves() {
				continue
			}
			for _, f := range p.cat.bySum[sum] {
				if n.held.has(f) {
					return true
				}
			}
		}
	}
	return false
}

// bound raises the lower bound to what a line needs.
func bound(t *pb.FillTime, bytes, bps uint64, by string) {
	if ms := lineTime(bytes, bps); ms > t.BoundMs {
		t.BoundMs, t.BoundBy = ms, by
	}
}

// lineTime is how long a line takes, in milliseconds; 0 if its rate is unknown.
func lineTime(bytes, bps uint64) int64 {
	if bps == 0 {
		return 0
	}
	return int64(float64(bytes) * 8000 / float64(bps))
}
