package gateway

import (
	"encoding/json"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/resilience/limit"
	"github.com/flix-lab/flix/services/telemetry"
)

// Names of the run-time properties.
const (
	PropertyRoutes      = "gateway.routes"
	PropertyEvacuate    = "gateway.evacuate"
	PropertyDrain       = "gateway.drain"
	PropertyTimeout     = "gateway.origin.timeout"
	PropertyConcurrency = "gateway.origin.concurrency"
	PropertyLimit       = "gateway.origin.limit"
	PropertyDeadline    = "gateway.deadline"
	PropertyMaxBody     = "gateway.max_body"

	filterPrefix = "gateway.filter."
	// Options that every filter has.
	optionDisable     = "disable"
	optionConcurrency = "concurrency"
)

const (
	defaultConcurrency = 200
	defaultMaxBody     = 16 << 20
)

// Evacuation sends a share of the requests to other regions.
type Evacuation struct {
	// Share of requests, 0 to 1. It is sticky by member (or client address):
	// whoever is sent away at a share stays away at every larger one.
	Share float64 `json:"share"`
	// Savers are the regions that take them.
	Savers []string `json:"savers"`
}

// ParseEvacuation reads and checks the property gateway.evacuate; "" is none.
func ParseEvacuation(text string) (Evacuation, error) {
	var e Evacuation
	if text == "" {
		return e, nil
	}
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		return Evacuation{}, &services.Error{Op: "evacuate", Kind: services.Invalid, Msg: `want {"share":0..1,"savers":["region"]}`, Err: err}
	}
	if !(e.Share >= 0 && e.Share <= 1) {
		return Evacuation{}, services.Errorf(services.Invalid, "evacuate: share %v is outside 0 to 1", e.Share)
	}
	if e.Share > 0 && (len(e.Savers) == 0 || slices.Contains(e.Savers, "")) {
		return Evacuation{}, services.Errorf(services.Invalid, "evacuate: a share of %v needs savers", e.Share)
	}
	return e, nil
}

// settings is what the properties say, ready for use. Each field changes alone
// and whole; a bad value leaves the field as it was.
type settings struct {
	routes      atomic.Pointer[routes]
	refused     atomic.Pointer[Refusal] // of the last table, if it was
	squeeze     atomic.Pointer[squeeze]
	evacuation  atomic.Pointer[Evacuation]
	drain       atomic.Bool // by property
	drained     atomic.Bool // by Drain, for good
	timeout     atomic.Int64
	deadline    atomic.Int64
	limit       atomic.Pointer[string] // algorithm, "" for none
	concurrency atomic.Int64
	maxBody     atomic.Int64

	mu       sync.Mutex // one change at a time, so that the last one wins
	props    *telemetry.Properties
	log      *slog.Logger
	defaults Deps
	chain    *chain
	counts   func(route string) *routeCounts
	guards   *guards

	loadsMu sync.Mutex
	loads   map[string]*vipLoad
}

func (st *settings) init(d Deps, c *chain, g *guards, counts func(string) *routeCounts) error {
	st.guards = g
	st.props, st.log, st.defaults, st.chain, st.counts = d.Tel.Properties, d.Tel.Log, d, c, counts
	st.loads = make(map[string]*vipLoad)
	defaults := []string{PropertyRoutes, PropertyEvacuate, PropertySqueeze, PropertyTimeout, PropertyConcurrency, PropertyLimit, PropertyDeadline, PropertyMaxBody}
	for _, f := range c.all {
		for _, o := range f.Options {
			defaults = append(defaults, FilterProperty(f.Name, o.Name))
		}
	}
	for _, p := range defaults {
		if err := st.set(p, ""); err != nil {
			return services.Wrap("gateway: default of "+p, err)
		}
	}
	return nil
}

// changed takes over one property. The value is read anew: two changes at once
// may be announced in either order.
func (st *settings) changed(name, _ string) {
	if !strings.HasPrefix(name, "gateway.") {
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	value := st.props.Get(name)
	if err := st.set(name, value); err != nil {
		st.log.Warn("property refused, the old value stays", "property", name, "value", value, "error", err)
	}
}

func (st *settings) set(name, value string) error {
	timing := st.defaults.Timing
	switch name {
	case PropertyRoutes:
		return st.setRoutes(value)
	case PropertyEvacuate:
		e, err := ParseEvacuation(value)
		if err == nil {
			st.evacuation.Store(&e)
		}
		return err
	case PropertyDrain:
		st.drain.Store(isOn(value))
	case PropertyTimeout:
		return setDuration(&st.timeout, value, 10*timing.RPCTimeout.D())
	case PropertyDeadline:
		return setDuration(&st.deadline, value, 30*timing.RPCTimeout.D())
	case PropertyLimit:
		return setLimit(&st.limit, value)
	case PropertyConcurrency:
		return setNumber(&st.concurrency, value, defaultConcurrency)
	case PropertyMaxBody:
		return setNumber(&st.maxBody, value, defaultMaxBody)
	case PropertySqueeze:
		return st.setSqueeze(value)
	default:
		if filter, option, ok := splitFilterProperty(name); ok {
			return st.chain.set(filter, option, value)
		}
	}
	return nil
}

func (st *settings) draining() bool { return st.drain.Load() || st.drained.Load() }

// Refusal is a table that a gateway did not take.
type Refusal struct {
	Version int    `json:"version"`
	Error   string `json:"error"`
}

func (st *settings) setRoutes(value string) error {
	t := Table{Routes: DefaultRoutes()}
	var err error
	if value == "" {
		t.Routes, err = CheckRoutes(t.Routes, nil)
	} else {
		t, err = ParseTable(value, st.defaults.OriginCIDRs)
	}
	var rs *routes
	if err == nil {
		rs, err = newRoutes(t, st.defaults.Region, st.defaults.Zone, st.load, st.counts)
	}
	if err != nil {
		st.refused.Store(&Refusal{Version: versionOf(value), Error: err.Error()})
		return err
	}
	st.refused.Store(nil)
	st.routes.Store(rs)
	return nil
}

// versionOf reads the version of a table that may be wrong otherwise.
func versionOf(value string) int {
	var t struct {
		Version int `json:"version"`
	}
	if json.Unmarshal([]byte(value), &t) != nil {
		return 0
	}
	return t.Version
}

// load is the load of a VIP; it outlives the tables that name it.
func (st *settings) load(vip string) *vipLoad {
	st.loadsMu.Lock()
	defer st.loadsMu.Unlock()
	l := st.loads[vip]
	if l == nil {
		l = &vipLoad{guard: st.guards.of(vip)} // one per target of the tables ever set
		st.loads[vip] = l
	}
	return l
}

// isOn reads a switch; "true" and "1" are taken too.
func isOn(v string) bool {
	b, err := strconv.ParseBool(v)
	return v == "on" || (err == nil && b)
}

func setDuration(to *atomic.Int64, value string, def time.Duration) error {
	d := def
	if value != "" {
		var err error
		if d, err = time.ParseDuration(value); err != nil || d <= 0 {
			return services.Errorf(services.Invalid, "%q is not a positive duration", value)
		}
	}
	to.Store(int64(d))
	return nil
}

func setNumber(to *atomic.Int64, value string, def int64) error {
	n := def
	if value != "" {
		var err error
		if n, err = strconv.ParseInt(value, 10, 64); err != nil || n <= 0 {
			return services.Errorf(services.Invalid, "%q is not a positive number", value)
		}
	}
	to.Store(n)
	return nil
}

// setLimit reads the name of an algorithm.
func setLimit(to *atomic.Pointer[string], value string) error {
	algorithm := limit.Gradient2
	switch {
	case value == "none":
		algorithm = ""
	case slices.Contains(limit.Algorithms(), value):
		algorithm = value
	case value != "":
		return services.Errorf(services.Invalid, "%q is not none or one of %s", value, services.List(limit.Algorithms()))
	}
	to.Store(&algorithm)
	return nil
}
