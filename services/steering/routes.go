package steering

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// route is one appliance's announcement of a prefix: how many networks are on
// the way (AS path), and the multi-exit discriminator, of which less is better.
type route struct {
	slot int
	path uint8
	med  uint32
}

// origin is who announces a prefix, in the order of preference. It is immutable
// and shared by every prefix that the same appliances announce alike: a table of
// a million prefixes has some thousands.
type origin struct {
	routes []route // by slot
	groups []group
	key    string
	uses   int // prefixes; the model's
}

// group is the appliances of an origin that are reached alike, but for their
// distance from the client, which is their region's.
type group struct {
	class  class
	path   uint8
	med    uint32
	region int
	slots  []patch
}

// router keeps the routing table. One goroutine writes, and decisions see a
// change at once.
type router struct {
	table   *prefixes
	origins map[string]*origin
	// apps says of a slot whether it is inside an ISP, and its region.
	apps []standing
	// scratch and key are of the change under way.
	scratch []route
	key     []byte
}

type standing struct {
	isp    bool
	region int
}

func newRouter() *router {
	return &router{table: newPrefixes(), origins: map[string]*origin{}}
}

// announce adds or replaces appliances' routes to a prefix.
func (r *router) announce(p netip.Prefix, rs ...route) {
	old := r.table.get(p)
	r.scratch = r.scratch[:0]
	if old != nil {
		r.scratch = append(r.scratch, old.routes...)
	}
	for _, x := range rs {
		at, had := slices.BinarySearchFunc(r.scratch, x.slot, func(x route, slot int) int { return x.slot - slot })
		if had {
			r.scratch[at] = x
		} else {
			r.scratch = slices.Insert(r.scratch, at, x)
		}
	}
	r.replace(p, old)
}

// withdraw takes an appliance's route to a prefix away.
func (r *router) withdraw(p netip.Prefix, slot int) {
	old := r.table.get(p)
	if old == nil {
		return
	}
	r.scratch = append(r.scratch[:0], old.routes...)
	r.scratch = slices.DeleteFunc(r.scratch, func(x route) bool { return x.slot == slot })
	r.replace(p, old)
}

// replace sets a prefix's origin to the one of the scratch routes.
func (r *router) replace(p netip.Prefix, old *origin) {
	fresh := r.origin()
	if fresh == old {
		return
	}
	r.table.set(p, fresh)
	if fresh != nil {
		fresh.uses++
	}
	if old != nil {
		if old.uses--; old.uses == 0 {
			delete(r.origins, old.key)
		}
	}
}

// origin is the one of the scratch routes; nil if there are none.
func (r *router) origin() *origin {
	if len(r.scratch) == 0 {
		return nil
	}
	r.key = r.key[:0]
	for _, x := range r.scratch {
		r.key = binary.AppendUvarint(r.key, uint64(x.slot))
		r.key = append(r.key, x.path)
		r.key = binary.AppendUvarint(r.key, uint64(x.med))
	}
	if o := r.origins[string(r.key)]; o != nil {
		return o
	}
	o := &origin{routes: slices.Clone(r.scratch), key: string(r.key)}
	o.groups = r.group(o.routes)
	r.origins[o.key] = o
	return o
}

// group sorts routes into groups, nearest first. The groups lie beside one
// another, and so do their slots: a decision comes by a prefix's origin cold.
func (r *router) group(routes []route) []group {
	var out []group
	patches := 0
	for _, x := range routes {
		st := r.apps[x.slot]
		g := group{class: peering, path: x.path, med: x.med, region: st.region}
		if st.isp {
			g.class = embedded
		}
		i := slices.IndexFunc(out, func(o group) bool {
			return o.class == g.class && o.path == g.path && o.med == g.med && o.region == g.region
		})
		if i < 0 {
			i = len(out)
			out = append(out, g)
		}
		out[i].add(x.slot)
	}
	for i := range out {
		patches += len(out[i].slots)
	}
	all := make([]patch, 0, patches)
	slices.SortFunc(out, func(a, b group) int {
		return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.path, b.path), cmp.Compare(a.med, b.med), cmp.Compare(a.region, b.region))
	})
	for i := range out {
		all = append(all, out[i].slots...)
		out[i].slots = all[len(all)-len(out[i].slots) : len(all) : len(all)]
	}
	return slices.Clip(out)
}
