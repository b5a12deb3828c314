package cachecontrol

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one cache control, in its instance's registry.
type metrics struct {
	orders, removed                         *prometheus.CounterVec
	failures, suspects, uneven              prometheus.Counter
	syncFailures, unreadable, persisted     prometheus.Counter
	eventsSent, eventsDropped, eventsFailed prometheus.Counter
}

func newMetrics(s *Server) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		orders:        prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fill_orders_total", Help: "Fill orders given, by the source named first."}, []string{"source"}),
		removed:       prometheus.NewCounterVec(prometheus.CounterOpts{Name: "cachecontrol_files_removed_total", Help: "Files that appliances reported gone."}, []string{"reason"}),
		failures:      counter("fill_failures_total", "Sources and orders that appliances reported failed."),
		suspects:      counter("cachecontrol_suspects_total", "Reports of bad bytes by clients."),
		uneven:        counter("cachecontrol_uneven_sites_total", "Times that appliances of a site were found to announce different prefixes."),
		syncFailures:  counter("cachecontrol_store_failures_total", "Reads and writes of the store that failed."),
		unreadable:    counter("cachecontrol_store_unreadable_total", "Items of the store that could not be read."),
		persisted:     counter("cachecontrol_states_written_total", "Appliance states written to the store."),
		eventsSent:    counter("cachecontrol_fill_events_total", "Fill events sent."),
		eventsDropped: counter("cachecontrol_fill_events_dropped_total", "Fill events dropped because the pipeline was behind."),
		eventsFailed:  counter("cachecontrol_fill_events_failed_total", "Fill events the pipeline refused."),
	}
	s.d.Tel.Metrics.MustRegister(m.orders, m.removed, m.failures, m.suspects, m.uneven, m.syncFailures, m.unreadable, m.persisted,
		m.eventsSent, m.eventsDropped, m.eventsFailed, &stateCollector{s})
	return m
}

// stateCollector counts at scrape time.
type stateCollector struct{ s *Server }

var (
	appliancesDesc = prometheus.NewDesc("cachecontrol_appliances", "Known appliances by state: connected here, connected elsewhere (remote), or unhealthy.", []string{"state"}, nil)
	assetsDesc     = prometheus.NewDesc("cachecontrol_assets", "Published titles known.", nil, nil)
	watchersDesc   = prometheus.NewDesc("cachecontrol_watchers", "Open Watch streams.", nil, nil)
	flightsDesc    = prometheus.NewDesc("fill_orders_in_flight", "Fill orders given and not answered.", nil, nil)
)

// Describe implements prometheus.Collector.
func (*stateCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- appliancesDesc
	ch <- assetsDesc
	ch <- watchersDesc
	ch <- flightsDesc
}

// Collect implements prometheus.Collector.
func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	c.s.mu.Lock()
	states := map[string]int{"connected": 0, "remote": 0, "unhealthy": 0}
	flights := 0
	for id, a := range c.s.appliances {
		switch {
		case !a.report.GetHealthy():
			states["unhealthy"]++
		case a.session != nil:
			states["connected"]++
		default:
			states["remote"]++
		}
		if n := c.s.planner.nodes[id]; n != nil {
			flights += len(n.flights)
		}
	}
	assets, watchers := len(c.s.planner.cat.assets), len(c.s.subscribers)
	c.s.mu.Unlock()
	for state, n := range states {
		ch <- prometheus.MustNewConstMetric(appliancesDesc, prometheus.GaugeValue, float64(n), state)
	}
	ch <- prometheus.MustNewConstMetric(assetsDesc, prometheus.GaugeValue, float64(assets))
	ch <- prometheus.MustNewConstMetric(watchersDesc, prometheus.GaugeValue, float64(watchers))
	ch <- prometheus.MustNewConstMetric(flightsDesc, prometheus.GaugeValue, float64(flights))
}
