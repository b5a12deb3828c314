package gateway

import (
	"cmp"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
)

// Phase of a filter.
type Phase int

// The phases. Inbound filters run in order until one fails. Then the first
// endpoint that applies answers, unless an inbound filter failed. Outbound
// filters run always.
const (
	Inbound Phase = iota
	Endpoint
	Outbound
)

// Filter is one step of a request. Run must not keep the exchange. An error of
// an inbound or endpoint filter becomes the answer.
type Filter struct {
	// Name is unique and part of the property that disables the filter.
	Name string
	// Phase and Order place it; equal orders run by name.
	Phase Phase
	Order int
	// Applies says whether to run it; nil is always. An endpoint that does
	// not apply leaves the request to the next one.
	Applies func(*Exchange) bool
	// Run does the work.
	Run func(*Exchange) error
}

// step is a filter in its chain, with what it has counted.
type step struct {
	Filter
	log      *slog.Logger
	disabled atomic.Bool
	ok       atomic.Uint64
	failed   atomic.Uint64
	nanos    atomic.Int64
}

// chain is every filter in the order they run.
type chain struct {
	phases [3][]*step
	byName map[string]*step
}

func newChain(log *slog.Logger, filters []Filter) (*chain, error) {
	c := &chain{byName: make(map[string]*step, len(filters))}
	for _, f := range filters {
		if f.Name == "" || f.Run == nil || f.Phase < Inbound || f.Phase > Outbound {
			return nil, services.Errorf(services.Invalid, "gateway: filter %q needs a name, a phase and Run", f.Name)
		}
		if c.byName[f.Name] != nil {
			return nil, services.Errorf(services.Invalid, "gateway: two filters are named %q", f.Name)
		}
		st := &step{Filter: f, log: log}
		c.byName[f.Name] = st
		c.phases[f.Phase] = append(c.phases[f.Phase], st)
	}
	for _, p := range c.phases {
		slices.SortFunc(p, func(a, b *step) int {
			return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Name, b.Name))
		})
	}
	return c, nil
}

// run takes the exchange through all phases.
func (c *chain) run(ex *Exchange) {
	for _, st := range c.phases[Inbound] {
		if _, ex.Err = st.run(ex); ex.Err != nil {
			break
		}
	}
	if ex.Err == nil {
		ex.Err = c.endpoint(ex)
	}
	for _, st := range c.phases[Outbound] {
		if _, err := st.run(ex); err != nil {
			ex.Err = err
			ex.answerProblem(err)
		}
	}
	if ex.Response.Status == 0 { // the mapping of errors is disabled
		ex.answerProblem(cmp.Or(ex.Err, error(services.Errorf(services.Internal, "no endpoint answered"))))
	}
}

func (c *chain) endpoint(ex *Exchange) error {
	for _, st := range c.phases[Endpoint] {
		if ran, err := st.run(ex); ran {
			return err
		}
	}
	return services.Errorf(services.Internal, "no endpoint takes the request")
}

// run reports whether the filter ran. A panic in a filter is an error of this
// one request.
func (st *step) run(ex *Exchange) (ran bool, err error) {
	if st.disabled.Load() || (st.Applies != nil && !st.Applies(ex)) {
		return false, nil
	}
	start := time.Now()
	defer func() {
		if p := recover(); p != nil {
			st.log.Error("filter panicked", "filter", st.Name, "panic", p, "stack", string(debug.Stack()))
			ran, err = true, services.Errorf(services.Internal, "filter %s panicked", st.Name)
		}
		st.nanos.Add(int64(time.Since(start)))
		if err != nil {
			st.failed.Add(1)
		} else {
			st.ok.Add(1)
		}
	}()
	return true, st.Run(ex)
}

// disable switches a filter off or on again.
func (c *chain) disable(name string, off bool) error {
	st := c.byName[name]
	if st == nil {
		return services.Errorf(services.NotFound, "no filter is named %q", name)
	}
	st.disabled.Store(off)
	return nil
}

// chainCollector exposes what the filters count themselves, so that a run
// costs two additions.
type chainCollector struct {
	c              *chain
	total, seconds *prometheus.Desc
}

func newChainCollector(c *chain) *chainCollector {
	return &chainCollector{
		c:       c,
		total:   prometheus.NewDesc("gateway_filter_total", "Runs of a filter.", []string{"filter", "result"}, nil),
		seconds: prometheus.NewDesc("gateway_filter_seconds_total", "Time spent in a filter.", []string{"filter"}, nil),
	}
}

func (cc *chainCollector) Describe(ch chan<- *prometheus.Desc) { ch <- cc.total; ch <- cc.seconds }

func (cc *chainCollector) Collect(ch chan<- prometheus.Metric) {
	for name, st := range cc.c.byName {
		ch <- prometheus.MustNewConstMetric(cc.total, prometheus.CounterValue, float64(st.ok.Load()), name, "ok")
		ch <- prometheus.MustNewConstMetric(cc.total, prometheus.CounterValue, float64(st.failed.Load()), name, "error")
		ch <- prometheus.MustNewConstMetric(cc.seconds, prometheus.CounterValue, time.Duration(st.nanos.Load()).Seconds(), name)
	}
}
