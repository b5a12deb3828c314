package registry

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of a registry. Instances are counted when they are asked for, so
// that an application that is gone leaves no series behind.
type metrics struct {
	requests  *prometheus.CounterVec
	received  *prometheus.CounterVec
	evictions prometheus.Counter
	renewals  prometheus.Counter
	throttled prometheus.Counter
	sent      prometheus.Counter
}

func newMetrics(s *Server) *metrics {
	m := &metrics{
		requests:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "registry_requests_total", Help: "Requests answered, by resource and HTTP status."}, []string{"resource", "status"}),
		received:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "registry_replication_received_total", Help: "Items that peers sent, by action."}, []string{"action"}),
		evictions: prometheus.NewCounter(prometheus.CounterOpts{Name: "registry_evictions_total", Help: "Leases that ran out."}),
		renewals:  prometheus.NewCounter(prometheus.CounterOpts{Name: "registry_renewals_total", Help: "Leases renewed."}),
		throttled: prometheus.NewCounter(prometheus.CounterOpts{Name: "registry_fetches_throttled_total", Help: "Fetches refused because they were above the limit."}),
		sent:      prometheus.NewCounter(prometheus.CounterOpts{Name: "registry_replication_sent_total", Help: "Items sent to peers."}),
	}
	s.deps.Tel.Metrics.MustRegister(m.requests, m.received, m.evictions, m.renewals, m.throttled, m.sent, &census{s: s,
		instances: prometheus.NewDesc("registry_instances", "Registered instances.", []string{"app", "status"}, nil),
		queue:     prometheus.NewDesc("registry_replication_queue", "Items that wait to be sent to a peer.", []string{"peer"}, nil),
		preserved: prometheus.NewDesc("registry_preserved_leases", "Leases that ran out and are kept by self-preservation.", nil, nil),
	})
	return m
}

// census counts what there is when somebody asks.
type census struct {
	s                           *Server
	instances, queue, preserved *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *census) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.instances
	ch <- c.queue
	ch <- c.preserved
}

// Collect implements prometheus.Collector.
func (c *census) Collect(ch chan<- prometheus.Metric) {
	counts := map[[2]string]float64{}
	c.s.store.each(func(l *lease) { counts[[2]string{l.key.app, l.inst.Status}]++ })
	for labels, n := range counts {
		ch <- prometheus.MustNewConstMetric(c.instances, prometheus.GaugeValue, n, labels[0], labels[1])
	}
	for _, p := range c.s.peers.report() {
		ch <- prometheus.MustNewConstMetric(c.queue, prometheus.GaugeValue, float64(p.Queued), p.URL)
	}
	ch <- prometheus.MustNewConstMetric(c.preserved, prometheus.GaugeValue, float64(c.s.policy.kept.Load()))
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (s *statusWriter) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController and http.MaxBytesReader.
func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }
