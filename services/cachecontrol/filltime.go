package cachecontrol

import (
	"time"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// never is the ETA of what does not come as things are.
const never = -1

// fillTime says how long some appliances take for what they lack: at the rate
// of late, and at least. The lower bound is the largest of what follows from
// each line alone: an appliance can take no more than its fill bandwidth; what
// nobody in a region holds passes through the exchange's appliances, once; they
// send every other copy that their own site lacks, and one of what an ISP's
// site lacks altogether; and an ISP's site sends itself all further copies.
// (For a broadcast of F bytes to N receivers from a source of capacity C:
// max(F/C, F/min d, N·F/(C+Σu)), Mundinger, Weber and Weiss 2008, applied here
// to each site, since an ISP's appliances serve its own network alone. The
// object stores' capacity is not known here.)
func (p *planner) fillTime(nodes []*node, rate func(*node) uint64, now time.Time) *pb.FillTime {
	t := &pb.FillTime{}
	regions := map[string]*regionFill{}
	for _, n := range nodes {
		_, bytes := n.missing(p)
		r := regions[n.site.region]
		if r == nil {
			r = &regionFill{sites: map[*site]*siteFill{}}
			regions[n.site.region] = r
		}
		if bytes == 0 {
			continue
		}
		t.MissingBytes += bytes
		sf := r.sites[n.site]
		if sf == nil {
			sf = &siteFill{}
			r.sites[n.site] = sf
		}
		sf.missing += bytes
		n.assigned.files.each(n.held, func(f int32) { sf.lacked.set(p.cat.bySum[p.cat.files[f].sum][0]) })
		r.lacked.add(sf.lacked)
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

// regionFill is what a region's appliances lack, by site.
type regionFill struct {
	lacked bitset // contents, by the first number of each
	sites  map[*site]*siteFill
}

// siteFill is what a site's appliances lack: the bytes of all copies, and the
// contents.
type siteFill struct {
	missing uint64
	lacked  bitset
}

func (p *planner) boundRegion(t *pb.FillTime, region string, r *regionFill) {
	outside := p.sizeOf(r.lacked, func(sum checksum) bool { return !p.heldIn(p.near[region], sum) })
	t.OriginBytes += outside
	x := p.exchange(region)
	var sent uint64 // by the exchange
	for s, f := range r.sites {
		fresh := p.sizeOf(f.lacked, func(sum checksum) bool { return !p.heldIn([]*site{s}, sum) })
		if s == x {
			sent += f.missing - min(f.missing, outside)
			bound(t, outside, s.uplink(), "the lines of "+s.name)
			continue
		}
		sent += fresh
		bound(t, f.missing-min(f.missing, fresh), s.uplink(), "the uploads of "+s.name)
	}
	if x != nil && x.uplink() > 0 {
		bound(t, sent, x.uplink(), "the uploads of "+x.name)
	}
}

// uplink is what the appliances of a site can give, or take, together: bits per
// second.
func (s *site) uplink() (bps uint64) {
	for _, n := range s.nodes {
		if n.presence != absent {
			bps += n.fill
		}
	}
	return bps
}

// sizeOf is the bytes of those of some contents that match.
func (p *planner) sizeOf(contents bitset, match func(checksum) bool) (total uint64) {
	contents.each(nil, func(f int32) {
		if match(p.cat.files[f].sum) {
			total += p.cat.files[f].file.GetSize()
		}
	})
	return total
}

// heldIn says whether an appliance of some sites could give a content.
func (p *planner) heldIn(sites []*site, sum checksum) bool {
	for _, s := range sites {
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
