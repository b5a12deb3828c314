package gateway

import (
	"github.com/flix-lab/flix/services"
)

// TableReport is the routing table that a gateway follows.
type TableReport struct {
	Gateway string `json:"gateway"`
	Region  string `json:"region"`
	Table
	// Refused is the last table, if the gateway did not take it.
	Refused *Refusal `json:"refused,omitempty"`
}

// Routes reports the table in force.
func (s *Server) Routes() TableReport {
	return TableReport{Gateway: s.d.Instance, Region: s.d.Region, Table: s.settings.routes.Load().Table, Refused: s.settings.refused.Load()}
}

// FilterStatus is a filter as it runs in a gateway.
type FilterStatus struct {
	Name    string `json:"name"`
	Phase   string `json:"phase"`
	Order   int    `json:"order"`
	Enabled bool   `json:"enabled"`
	Async   bool   `json:"async"`
	// Optional filters never fail a request.
	Optional bool `json:"optional"`
	// Concurrency is how many requests may be in it at once, 0 for any
	// number; InFlight are.
	Concurrency int64  `json:"concurrency"`
	InFlight    int64  `json:"inflight"`
	Runs        uint64 `json:"runs"`
	Errors      uint64 `json:"errors"`
	Rejected    uint64 `json:"rejected"`
	// MeanUS is the mean time of a run, in microseconds, estimated from those
	// that were timed.
	MeanUS  float64        `json:"mean_us"`
	Options []FilterOption `json:"options"`
}

// FilterOption is one setting of a filter.
type FilterOption struct {
	Name string `json:"name"`
	// Value is what was set, "" for the default.
	Value   string `json:"value"`
	Default string `json:"default"`
	Doc     string `json:"doc"`
}

// Filters reports every filter in the order they run.
func (s *Server) Filters() []FilterStatus {
	out := make([]FilterStatus, 0, len(s.chain.all))
	for _, st := range s.chain.all {
		f := st.status()
		for _, o := range st.Options {
			f.Options = append(f.Options, FilterOption{Name: o.Name, Value: s.d.Tel.Properties.Get(FilterProperty(st.Name, o.Name)), Default: o.Default, Doc: o.Doc})
		}
		out = append(out, f)
	}
	return out
}

func (st *step) status() FilterStatus {
	f := FilterStatus{
		Name: st.Name, Phase: st.Phase.String(), Order: st.Order, Enabled: !st.disabled.Load(), Async: st.Start != nil, Optional: st.Optional,
		Concurrency: st.limit.Load(), InFlight: st.inFlight.Load(), Runs: st.runs(), Errors: st.failed.Load(), Rejected: st.rejected.Load(),
		Options: []FilterOption{},
	}
	f.MeanUS = float64(st.mean().Nanoseconds()) / 1000
	return f
}

// set takes a setting of a filter over.
func (c *chain) set(filter, option, value string) error {
	st, err := c.find(filter)
	if err != nil {
		return err
	}
	switch option {
	case optionDisable:
		return c.disable(filter, isOn(value))
	case optionConcurrency:
		return setCount(&st.limit, value, int64(st.Concurrency))
	}
	for _, o := range st.Options {
		if o.Name == option {
			return o.Set(value)
		}
	}
	return services.Errorf(services.NotFound, "filter %s has no option %q", filter, option).WithRemedy("see them all: flix gateway filters ls -o json")
}

// CheckProperty says whether a gateway would take a value of a property over.
// It is for who sets it: a gateway itself keeps the old value of one it
// refuses.
func CheckProperty(name, value string) error {
	switch name {
	case PropertyRoutes:
		if value == "" {
			return nil
		}
		_, err := ParseTable(value, nil)
		return err
	case PropertyEvacuate:
		_, err := ParseEvacuation(value)
		return err
	case PropertySqueeze:
		_, err := ParseSqueeze(value)
		return err
	}
	filter, option, ok := splitFilterProperty(name)
	if !ok {
		return services.Errorf(services.NotFound, "there is no property %q", name)
	}
	// A server that serves nobody has the same filters and options.
	c, err := newChain(nil, new(Server).builtin())
	if err != nil {
		return err
	}
	return c.set(filter, option, value)
}
