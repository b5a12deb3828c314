package gateway

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

// compiled is a route ready to be matched.
type compiled struct {
	prefix  string // without a slash at its end
	class   Class
	rates   *rates // nil for none
	load    *vipLoad
	when    *Condition
	share   float64 // of the viewers; 1 is all
	salt    string
	until   time.Time
	origins []string // host:port
	scheme  string   // of the origins
	secure  string   // the name that they must prove; "" is their address
	rewrite string   // of the path
	counts  *routeCounts
	overlay string // the name of the one that gave the route its target
	// over are the routes that an overlay makes of those beneath it.
	over sync.Map // *Route → *Route
}

// routes is a table ready to be matched.
type routes struct {
	Table
	// bySegment lists, best first, the routes that a path with that first
	// segment may match; others those of any other path.
	bySegment map[string][]*Route
	others    []*Route
	overlays  []*Route
	region    string
	zone      string
	loads     func(vip string) *vipLoad
	counts    func(route string) *routeCounts
}

// newRoutes compiles a checked table for a gateway.
func newRoutes(t Table, region, zone string, loads func(string) *vipLoad, counts func(string) *routeCounts) (*routes, error) {
	rs := &routes{Table: t, bySegment: make(map[string][]*Route), region: region, zone: zone, loads: loads, counts: counts}
	var all []*Route
	for k := range rs.Routes {
		r := &rs.Routes[k]
		if err := rs.compile(r); err != nil {
			return nil, err
		}
		if len(r.In) > 0 && !slices.Contains(r.In, region) {
			continue
		}
		if r.Overlay {
			rs.overlays = append(rs.overlays, r)
		} else {
			all = append(all, r)
		}
	}
	slices.SortStableFunc(all, byPrecedence)
	slices.SortStableFunc(rs.overlays, byPrecedence)
	for _, r := range all {
		if seg := firstSegment(r.Prefix + r.Path); seg != "" {
			rs.bySegment[seg] = nil
		} else {
			rs.others = append(rs.others, r)
		}
	}
	for seg := range rs.bySegment {
		for _, r := range all {
			if s := firstSegment(r.Prefix + r.Path); s == "" || s == seg {
				rs.bySegment[seg] = append(rs.bySegment[seg], r)
			}
		}
	}
	return rs, nil
}

// byPrecedence: priority, then an exact path, then the longer prefix, then more
// conditions.
func byPrecedence(a, b *Route) int {
	return cmp.Or(
		cmp.Compare(b.Priority, a.Priority),
		cmp.Compare(len(b.Path), len(a.Path)),
		cmp.Compare(len(b.Prefix), len(a.Prefix)),
		cmp.Compare(b.conditions(), a.conditions()),
		cmp.Compare(a.Name, b.Name),
	)
}

func firstSegment(p string) string {
	seg, _, _ := strings.Cut(strings.TrimPrefix(p, "/"), "/")
	return seg
}

func (rs *routes) compile(r *Route) error {
	c := &compiled{prefix: strings.TrimSuffix(r.Prefix, "/"), share: 1, salt: cmp.Or(r.Salt, r.Name), load: rs.loads(r.target()), counts: rs.counts(r.Name)}
	var err error
	if c.class, err = ParseClass(r.Class); err != nil {
		return err
	}
	if r.Limits != nil {
		l, err := r.Limits.parse()
		if err != nil {
			return err
		}
		c.rates = &l
	}
	if r.When != "" {
		if c.when, err = ParseCondition(r.When, c.salt); err != nil {
			return err
		}
	}
	if r.Percent != nil {
		c.share = *r.Percent / 100
	}
	if r.Until != nil {
		c.until = *r.Until
	}
	for _, o := range r.Origins {
		scheme, at, err := parseOrigin(o)
		if err != nil {
			return err
		}
		c.scheme, c.origins = scheme, append(c.origins, at.String())
	}
	c.secure, c.rewrite = r.ServerName, r.Rewrite
	r.compiled = c
	return nil
}

// match returns the route of a request, overlays applied, or nil. stay leaves
// routes out that only lead to another region.
func (rs *routes) match(ex *Exchange, stay bool) *Route {
	f := facts{ex: ex, region: rs.region, zone: rs.zone}
	p := ex.Request.Path
	list, ok := rs.bySegment[firstSegment(p)]
	if !ok {
		list = rs.others
	}
	base := first(list, f, p, stay)
	if base == nil || len(rs.overlays) == 0 {
		return base
	}
	if over := first(rs.overlays, f, p, stay); over != nil {
		return rs.derive(base, over)
	}
	return base
}

func first(list []*Route, f facts, path string, stay bool) *Route {
	for _, r := range list {
		if r.Region != "" && r.VIP == "" && (stay || r.Region == f.region) {
			continue // it leads nowhere from here
		}
		if r.matches(f, path) {
			return r
		}
	}
	return nil
}

func (r *Route) matches(f facts, path string) bool {
	if r.Path != "" {
		if trimRoot(path) != r.Path {
			return false
		}
	} else if rest, ok := strings.CutPrefix(path, r.compiled.prefix); !ok || (rest != "" && rest[0] != '/') {
		return false
	}
	c, ex := r.compiled, f.ex
	if len(r.Methods) > 0 && !slices.Contains(r.Methods, ex.Request.Method) {
		return false
	}
	if len(r.Hosts) > 0 && !hostAmong(r.Hosts, hostName(ex.Request.Host)) {
		return false
	}
	if len(r.Countries) > 0 && !slices.Contains(r.Countries, ex.Country) {
		return false
	}
	if len(r.Devices) > 0 && !slices.Contains(r.Devices, ex.Device) {
		return false
	}
	if len(r.Members) > 0 && (ex.Member == nil || !slices.Contains(r.Members, ex.Member.Member)) {
		return false
	}
	for name, want := range r.Headers {
		if got := ex.Request.Header.Get(name); got != want && (want != "*" || got == "") {
			return false
		}
	}
	if !c.until.IsZero() && !ex.Received.Before(c.until) {
		return false
	}
	return c.when.holds(f) && (c.share == 1 || chosen(ex, c.share, c.salt))
}

func hostAmong(hosts []string, host string) bool {
	for _, h := range hosts {
		if below, ok := strings.CutPrefix(h, "*"); ok { // ".example.org"
			if len(host) > len(below) && strings.HasSuffix(host, below) {
				return true
			}
		} else if h == host {
			return true
		}
	}
	return false
}

// derive is a route with the target of an overlay, made once for each pair.
func (rs *routes) derive(base, over *Route) *Route {
	if d, ok := over.compiled.over.Load(base); ok {
		return d.(*Route)
	}
	d := *base
	d.VIP, d.Instance, d.Region, d.Origins = over.VIP, over.Instance, over.Region, over.Origins
	if d.Instance != "" && d.VIP == "" {
		d.VIP = base.VIP
	}
	if over.Timeout > 0 {
		d.Timeout = over.Timeout
	}
	b, o := base.compiled, over.compiled
	d.compiled = &compiled{overlay: over.Name, class: b.class, rates: b.rates, load: rs.loads(cmp.Or(d.VIP, d.target())), origins: o.origins, scheme: o.scheme, secure: o.secure, share: 1, counts: b.counts}
	got, _ := over.compiled.over.LoadOrStore(base, &d)
	return got.(*Route)
}

// SortRoutes orders routes as a gateway tries them, overlays first.
func SortRoutes(rs []Route) {
	slices.SortStableFunc(rs, func(a, b Route) int {
		if a.Overlay != b.Overlay {
			if a.Overlay {
				return -1
			}
			return 1
		}
		return byPrecedence(&a, &b)
	})
}

// Beneath finds the route that requests for another's path go to so far, else
// one that leads to the same API: what that asks of a client, a route beside it
// should not forget.
func Beneath(table []Route, r Route) (Route, bool) {
	sorted := slices.Clone(table)
	SortRoutes(sorted)
	p := cmp.Or(r.Path, r.Prefix)
	for _, o := range sorted {
		if o.Overlay || o.Name == r.Name || o.conditions() > 0 {
			continue
		}
		if o.Path != "" {
			if o.Path == p && r.Path != "" {
				return o, true
			}
			continue
		}
		if rest, ok := strings.CutPrefix(p, strings.TrimSuffix(o.Prefix, "/")); ok && (rest == "" || rest[0] == '/') {
			return o, true
		}
	}
	for _, o := range sorted {
		if !o.Overlay && o.Name != r.Name && o.VIP != "" && o.VIP == r.VIP && o.Member {
			return o, true
		}
	}
	return Route{}, false
}
