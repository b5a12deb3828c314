package embedded

import (
	"context"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
)

// metrics of one node.
type metrics struct {
	writes      *prometheus.CounterVec
	confirms    *prometheus.CounterVec
	applied     prometheus.Counter
	failures    prometheus.Counter
	interrupted prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Server) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		writes:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sql_writes_total", Help: "Transactions that write, run as the primary, by kind of error or ok."}, []string{"kind"}),
		confirms:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sql_confirms_total", Help: "Writes that asked for a second region, by how they were acknowledged: replica, alone (none connected) or late (none in time)."}, []string{"by"}),
		applied:     counter("sql_applied_total", "Change sets applied as a replica."),
		failures:    counter("sql_apply_failures_total", "Change sets that could not be applied."),
		interrupted: counter("sql_replication_interrupted_total", "Times that the stream from the primary ended."),
	}
	reg.MustRegister(m.writes, m.confirms, m.applied, m.failures, m.interrupted, newStateCollector(s))
	return m
}

func (m *metrics) write(err error) {
	kind := "ok"
	if err != nil {
		kind = string(services.KindOf(err))
	}
	m.writes.WithLabelValues(kind).Inc()
}

// stateCollector reads the node's state when it is asked for.
type stateCollector struct {
	s                                               *Server
	primary, epoch, position, behind, diverged, log *prometheus.Desc

	// SQLite need not be asked again while the node stands still.
	mu              sync.Mutex
	at              state
	nDiverged, nLog int64
}

func newStateCollector(s *Server) *stateCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &stateCollector{
		s:        s,
		primary:  desc("sql_primary", "1 when the node is the primary."),
		epoch:    desc("sql_epoch", "Newest promotion that the node knows of."),
		position: desc("sql_position", "Last change set applied."),
		behind:   desc("sql_replica_behind", "Change sets that a replica has not confirmed; told by the primary.", "peer"),
		diverged: desc("sql_diverged_changesets", "Change sets of this node that no primary took over, kept aside."),
		log:      desc("sql_changeset_bytes", "Bytes of change sets kept."),
	}
}

// Describe implements prometheus.Collector.
func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.primary, c.epoch, c.position, c.behind, c.diverged, c.log} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	st, _ := c.s.history.look()
	is := 0.0
	if st.primary {
		is = 1
		for region, applied := range c.s.followers.snapshot() {
			gauge(c.behind, float64(st.position)-float64(min(applied, st.position)), region)
		}
	}
	gauge(c.primary, is)
	gauge(c.epoch, float64(st.epoch))
	gauge(c.position, float64(st.position))
	diverged, log, err := c.sizes(st)
	if err != nil { // the node has ended
		ch <- prometheus.NewInvalidMetric(c.diverged, err)
		return
	}
	gauge(c.diverged, float64(diverged))
	gauge(c.log, float64(log))
}

func (c *stateCollector) sizes(st state) (diverged, log int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if st == c.at && c.nLog > 0 {
		return c.nDiverged, c.nLog, nil
	}
	diverged, log, err = c.s.history.sizes(context.Background())
	if err == nil {
		c.at, c.nDiverged, c.nLog = st, diverged, log
	}
	return diverged, log, err
}
