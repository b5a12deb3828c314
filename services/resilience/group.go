package resilience

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services/resilience/limit"
	"github.com/flix-lab/flix/services/telemetry"
)

// Group is all commands of one instance. It watches the instance's properties
// (see Properties) and exposes metrics, the stream of Hystrix's dashboards and
// the commands' states on the instance's admin endpoint. Make one per instance:
// a second on the same telemetry panics for its metrics.
type Group struct {
	tel      *telemetry.Telemetry
	defaults Options
	clock    clock
	contexts contexts
	streams  streams
	// running are the goroutines that DoApart and Collapser began.
	running sync.WaitGroup

	mu         sync.RWMutex
	circuits   map[string]*circuit
	pools      map[string]*pool
	collapsers map[string]*collapses
}

// NewGroup makes the group of one instance. Fields of defaults that are zero
// take the package's defaults.
func NewGroup(tel *telemetry.Telemetry, defaults Options) *Group {
	d := packageDefaults()
	d.Group = cmp.Or(tel.Role, "commands")
	g := &Group{
		tel: tel, defaults: defaults.or(d), clock: newClock(),
		circuits: make(map[string]*circuit), pools: make(map[string]*pool), collapsers: make(map[string]*collapses),
	}
	g.contexts.init()
	tel.Metrics.MustRegister(newCollector(g), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "resilience_stream_clients", Help: "Clients of /hystrix.stream.",
	}, func() float64 { return float64(g.streams.open.Load()) }))
	tel.Properties.Watch(g.propertyChanged)
	g.registerAdmin()
	return g
}

// Wait returns when nothing runs any more that calls left behind: what DoApart
// gave up and what a Collapser began. Call it once no more calls come.
func (g *Group) Wait() { g.running.Wait() }

// circuit returns the circuit of that name, made with o if it is new.
func (g *Group) circuit(name string, o Options) *circuit {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c, ok := g.circuits[name]; ok {
		return c
	}
	o = o.or(g.defaults)
	p, ok := g.pools[o.Group]
	if !ok {
		p = newPool(o.Group, o.PoolSize)
		g.pools[o.Group] = p
	}
	c := newCircuit(g, name, o, p)
	g.apply(c)
	g.circuits[name] = c
	return c
}

// propertyChanged takes over the properties of the commands that a change is
// about.
func (g *Group) propertyChanged(property, _ string) {
	rest, ok := strings.CutPrefix(strings.TrimPrefix(property, hystrixPrefix), Prefix)
	if !ok {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, c := range g.circuits {
		if strings.HasPrefix(rest, name+".") || strings.HasPrefix(rest, defaultCommand+".") {
			g.apply(c)
		}
	}
}

// apply reads all properties of a command anew instead of taking one change:
// two changes at once may be announced in either order, and the last one set
// must win. The caller holds g.mu.
func (g *Group) apply(c *circuit) {
	s := c.options.settings()
	for _, p := range Properties() {
		for _, of := range []string{defaultCommand, c.name} {
			name, v := g.property(of, p)
			if v == "" {
				continue
			}
			if err := p.set(&s, v); err != nil {
				g.tel.Log.Warn("property ignored", "property", name, "value", v, "want", p.Want)
			}
		}
	}
	g.limit(c, &s)
	c.settings.Store(&s)
}

// property returns a property of a command as it is set, and the name it is
// set by.
func (g *Group) property(command string, p Property) (name, value string) {
	for _, short := range []string{p.Name, p.Short} {
		name = Prefix + command + "." + short
		for _, n := range []string{name, hystrixPrefix + name} {
			if v := g.tel.Properties.Get(n); v != "" {
				return n, v
			}
		}
	}
	return name, ""
}

// limit gives the circuit the limiter of its settings; one that stays the same
// keeps what it has learned.
func (g *Group) limit(c *circuit, s *settings) {
	was := c.limiter.Load()
	if s.limit.Algorithm == "" {
		c.limiter.Store(nil)
		return
	}
	l, err := limit.New(s.limits())
	if err != nil {
		g.tel.Log.Warn("adaptive limit refused, the old one stays", "command", c.name, "error", err)
		return
	}
	if was == nil || was.Config() != l.Config() {
		c.limiter.Store(l)
	}
}

// sorted returns the circuits by name.
func (g *Group) sorted() []*circuit {
	g.mu.RLock()
	defer g.mu.RUnlock()
	out := make([]*circuit, 0, len(g.circuits))
	for _, c := range g.circuits {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *circuit) int { return strings.Compare(a.name, b.name) })
	return out
}
