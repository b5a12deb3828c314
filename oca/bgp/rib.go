package bgp

import (
	"net/netip"

	packet "github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/flix-lab/flix/topology"
)

// rib is what was learned. The speaker's lock guards it.
type rib struct {
	routes map[netip.Prefix]learned
	most   int
	stale  int // routes of a session before this one
}

type learned struct {
	path, med uint32
	stale     bool
}

func newRIB(most int) *rib { return &rib{routes: map[netip.Prefix]learned{}, most: most} }

// apply takes an UPDATE up and says whether anything is different now.
func (r *rib) apply(c change) (changed bool, err error) {
	for _, p := range c.withdrawn {
		changed = r.remove(p) || changed
	}
	for _, x := range c.announced {
		old, had := r.routes[x.Prefix]
		if !had && len(r.routes) >= r.most {
			return changed, faultf(packet.BGP_ERROR_CEASE, packet.BGP_ERROR_SUB_MAXIMUM_NUMBER_OF_PREFIXES_REACHED, "the neighbour announces more than %d prefixes", r.most)
		}
		if old.stale {
			r.stale--
		}
		fresh := learned{path: x.ASPath, med: x.MED}
		changed = changed || !had || old.path != fresh.path || old.med != fresh.med
		r.routes[x.Prefix] = fresh
	}
	return changed, nil
}

func (r *rib) remove(p netip.Prefix) bool {
	old, had := r.routes[p]
	if !had {
		return false
	}
	if old.stale {
		r.stale--
	}
	delete(r.routes, p)
	return true
}

// age marks everything stale: the session is lost.
func (r *rib) age() {
	for p, x := range r.routes {
		x.stale = true
		r.routes[p] = x
	}
	r.stale = len(r.routes)
}

// clear drops everything and says how much that was.
func (r *rib) clear() int {
	n := len(r.routes)
	clear(r.routes)
	r.stale = 0
	return n
}

// sweep drops the stale routes of a family, of all for 0, and says whether there
// were any.
func (r *rib) sweep(f packet.Family) bool {
	if r.stale == 0 {
		return false
	}
	before := len(r.routes)
	for p, x := range r.routes {
		if x.stale && (f == 0 || p.Addr().Is4() == (f == packet.RF_IPv4_UC)) {
			r.remove(p)
		}
	}
	return len(r.routes) != before
}

// list is every route, in no order.
func (r *rib) list() []topology.Route {
	out := make([]topology.Route, 0, len(r.routes))
	for p, x := range r.routes {
		out = append(out, topology.Route{Prefix: p, ASPath: x.path, MED: x.med})
	}
	return out
}
