package steering

import (
	"net/netip"
	"os"
	"slices"

	ccpb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/topology"
)

// learn gives an appliance the routes that it learned with attributes, and those
// of the loaded table: the best of each prefix. What is no prefix is logged and
// skipped. It comes before plain announcements, which have no attributes and
// count only where nothing was learned.
func (m *model) learn(a *appliance, h *ccpb.Hello) {
	for _, r := range h.GetRoutes() {
		p, err := netip.ParsePrefix(r.GetPrefix())
		if err != nil {
			m.srv.log.Error("an appliance learned what is no prefix", "appliance", a.id, "prefix", r.GetPrefix())
			continue
		}
		a.better(p, r.GetAsPath(), r.GetMed())
	}
	t := m.srv.loaded.Load()
	if t == nil {
		return
	}
	for _, at := range []string{a.site, a.id} {
		for _, r := range t.At(at) {
			a.better(r.Prefix, r.ASPath, r.MED)
		}
	}
}

// better takes a route unless a shorter path, or a smaller discriminator of the
// same, is known.
func (a *appliance) better(p netip.Prefix, path, med uint32) {
	if topology.CatchAll(p) {
		a.tooWide(p)
		return
	}
	fresh := route{slot: a.slot, path: uint8(min(path, 255)), med: med}
	old, had := a.routes[p.Masked()]
	if !had || fresh.path < old.path || fresh.path == old.path && fresh.med < old.med {
		a.routes[p.Masked()] = fresh
	}
}

// tooWide notes a prefix that is announced and not believed.
func (a *appliance) tooWide(p netip.Prefix) {
	if p = p.Masked(); !slices.Contains(a.wide, p) {
		a.wide = append(a.wide, p)
	}
}

// alarm says that an appliance announces prefixes that are not believed.
func (m *model) alarm(a, old *appliance) {
	if len(a.wide) > 0 && (old == nil || !slices.Equal(old.wide, a.wide)) {
		m.srv.log.Warn("an appliance announces more than one network has, which is ignored", "appliance", a.id, "site", a.site, "prefixes", a.wide)
	}
}

// Load replaces the table of routes that were read from a file; nil takes it
// away. Decisions follow within a moment.
func (s *Server) Load(t *topology.RouteTable) {
	s.loaded.Store(t)
	select {
	case s.reload <- struct{}{}:
	default:
	}
}

// relearn brings every appliance's routes up to date after a table was loaded.
func (m *model) relearn() {
	for _, k := range m.known {
		old := k.app
		k.app = m.appliance(k.hello, old)
		m.reroute(old, k.app)
		m.stale = true
	}
}

// PropertyRoutes names a file with a table of routes (see topology.ParseRoutes)
// that the sites or appliances in it have learned, beside what they announce
// themselves; unset takes it away.
const PropertyRoutes = "steering.routes"

// setProperty loads the table. One that cannot be read leaves the one before
// and is logged: whoever set the property has checked the file.
func (s *Server) setProperty(name, value string) {
	if name != PropertyRoutes {
		return
	}
	if value == "" {
		s.Load(nil)
		return
	}
	t, err := readRoutes(value)
	if err != nil {
		s.log.Error("the table of routes cannot be read", "file", value, "error", err)
		return
	}
	s.log.Info("a table of routes is loaded", "file", value, "routes", t.Len(), "places", len(t.Places()))
	s.Load(t)
}

func readRoutes(file string) (*topology.RouteTable, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return topology.ParseRoutes(file, f)
}
