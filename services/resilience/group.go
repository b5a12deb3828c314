package resilience

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services/telemetry"
)

// Group is all commands of one instance. It watches the instance's properties
//
//	command.<name>.force    "open" refuses every call, "closed" ignores the breaker
//	command.<name>.timeout  a duration in place of Options.Timeout
//
// and exposes resilience_command_total and resilience_command_seconds. Make
// one per instance: a second on the same telemetry panics for its metrics.
type Group struct {
	tel      *telemetry.Telemetry
	defaults Options
	seconds  *prometheus.HistogramVec
	total    *prometheus.Desc

	mu       sync.RWMutex
	circuits map[string]*circuit
}

// State is one command as an operator sees it.
type State struct {
	Name string `json:"name"`
	// Breaker is closed, open or half_open.
	Breaker string `json:"breaker"`
	// Forced is what the force property says: open, closed or "".
	Forced string `json:"forced,omitempty"`
	// InFlight counts the calls that hold a place in the bulkhead now.
	InFlight int `json:"in_flight"`
	// WindowCalls and WindowFailures are what the breaker counts by.
	WindowCalls    uint `json:"window_calls"`
	WindowFailures uint `json:"window_failures"`
	// Events counts what happened since start, by event of
	// resilience_command_total.
	Events map[string]uint64 `json:"events"`
}

// NewGroup makes the group of one instance. Fields of defaults that are zero
// take the package's defaults.
func NewGroup(tel *telemetry.Telemetry, defaults Options) *Group {
	g := &Group{
		tel:      tel,
		defaults: defaults.or(packageDefaults()),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "resilience_command_seconds", Help: "Time of a command's own call, fallback excluded.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 8),
		}, []string{"command"}),
		total:    prometheus.NewDesc("resilience_command_total", "What became of the calls of a command.", []string{"command", "event"}, nil),
		circuits: make(map[string]*circuit),
	}
	tel.Metrics.MustRegister(g.seconds, (*eventCollector)(g))
	tel.Properties.Watch(g.propertyChanged)
	return g
}

// circuit returns the circuit of that name, made with o if it is new.
func (g *Group) circuit(name string, o Options) *circuit {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c, ok := g.circuits[name]; ok {
		return c
	}
	c := newCircuit(name, o.or(g.defaults), g.seconds.WithLabelValues(name))
	g.circuits[name] = c
	g.apply(c, "force")
	g.apply(c, "timeout")
	return c
}

func (g *Group) propertyChanged(property, _ string) {
	rest, ok := strings.CutPrefix(property, "command.")
	if !ok {
		return
	}
	i := strings.LastIndexByte(rest, '.')
	if i < 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if c, ok := g.circuits[rest[:i]]; ok {
		g.apply(c, rest[i+1:])
	}
}

// apply reads a property anew instead of taking the value of the change:
// two changes at once may be announced in either order, and the last one set
// must win. The caller holds g.mu.
func (g *Group) apply(c *circuit, setting string) {
	property := "command." + c.name + "." + setting
	v := g.tel.Properties.Get(property)
	var bad bool
	switch setting {
	case "force":
		bad = !c.setForce(v)
	case "timeout":
		d, err := time.ParseDuration(v)
		bad = v != "" && (err != nil || d <= 0)
		if v == "" || bad {
			d = c.options.Timeout
		}
		c.timeout.Store(int64(d))
	}
	if bad {
		g.tel.Log.Warn("property ignored: want open, closed or nothing for force, a positive duration for timeout", "property", property, "value", v)
	}
}

// Snapshot returns the state of every command, by name.
func (g *Group) Snapshot() []State {
	g.mu.RLock()
	defer g.mu.RUnlock()
	states := make([]State, 0, len(g.circuits))
	for _, c := range g.circuits {
		states = append(states, c.state())
	}
	slices.SortFunc(states, func(a, b State) int { return strings.Compare(a.Name, b.Name) })
	return states
}

// eventCollector exposes the circuits' own counters, so that an event costs
// one atomic addition.
type eventCollector Group

func (e *eventCollector) Describe(ch chan<- *prometheus.Desc) { ch <- e.total }

func (e *eventCollector) Collect(ch chan<- prometheus.Metric) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, c := range e.circuits {
		for i := range c.events {
			ch <- prometheus.MustNewConstMetric(e.total, prometheus.CounterValue, float64(c.events[i].Load()), c.name, event(i).String())
		}
	}
}
