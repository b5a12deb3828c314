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
	"github.com/flix-lab/flix/services/telemetry"
)

// Names of the run-time properties.
const (
	PropertyRoutes      = "gateway.routes"
	PropertyEvacuate    = "gateway.evacuate"
	PropertyDrain       = "gateway.drain"
	PropertyTimeout     = "gateway.origin.timeout"
	PropertyConcurrency = "gateway.origin.concurrency"
	PropertyDeadline    = "gateway.deadline"
	PropertyMaxBody     = "gateway.max_body"

	filterPrefix  = "gateway.filter."
	disableSuffix = ".disable"
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
	evacuation  atomic.Pointer[Evacuation]
	drain       atomic.Bool // by property
	drained     atomic.Bool // by Drain, for good
	timeout     atomic.Int64
	deadline    atomic.Int64
	concurrency atomic.Int64
	maxBody     atomic.Int64

	mu       sync.Mutex // one change at a time, so that the last one wins
	props    *telemetry.Properties
	log      *slog.Logger
	defaults Deps
	chain    *chain
}

func (st *settings) init(d Deps, c *chain) {
	st.props, st.log, st.defaults, st.chain = d.Tel.Properties, d.Tel.Log, d, c
	for _, p := range []string{PropertyRoutes, PropertyEvacuate, PropertyTimeout, PropertyConcurrency, PropertyDeadline, PropertyMaxBody} {
		if err := st.set(p, ""); err != nil {
			panic("gateway: default of " + p + ": " + err.Error()) // constants
		}
	}
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
	case PropertyConcurrency:
		return setNumber(&st.concurrency, value, defaultConcurrency)
	case PropertyMaxBody:
		return setNumber(&st.maxBody, value, defaultMaxBody)
	default:
		if strings.HasPrefix(name, filterPrefix) && strings.HasSuffix(name, disableSuffix) {
			return st.chain.disable(strings.TrimSuffix(strings.TrimPrefix(name, filterPrefix), disableSuffix), isOn(value))
		}
	}
	return nil
}

func (st *settings) draining() bool { return st.drain.Load() || st.drained.Load() }

func (st *settings) setRoutes(value string) error {
	var (
		table routes
		err   error
	)
	if value == "" {
		table, err = newRoutes(DefaultRoutes())
	} else {
		table, err = ParseRoutes(value)
	}
	if err == nil {
		st.routes.Store(&table)
	}
	return err
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
