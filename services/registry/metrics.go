package registry

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of a registry. Instances are counted when they are asked for, so
// that an application that is gone leaves no series behind.
type metrics struct {
	requests  *prometheus.CounterVec
	evictions prometheus.Counter
	renewals  prometheus.Counter
}

func newMetrics(reg *prometheus.Registry, st *store) *metrics {
	m := &metrics{
		requests:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "registry_requests_total", Help: "Requests answered, by resource and HTTP status."}, []string{"resource", "status"}),
		evictions: prometheus.NewCounter(prometheus.CounterOpts{Name: "registry_evictions_total", Help: "Leases that ran out."}),
		renewals:  prometheus.NewCounter(prometheus.CounterOpts{Name: "registry_renewals_total", Help: "Leases renewed."}),
	}
	reg.MustRegister(m.requests, m.evictions, m.renewals, &census{store: st, desc: prometheus.NewDesc("registry_instances", "Registered instances.", []string{"app", "status"}, nil)})
	return m
}

// census counts the registered instances.
type census struct {
	store *store
	desc  *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *census) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c *census) Collect(ch chan<- prometheus.Metric) {
	counts := map[[2]string]float64{}
	c.store.each(func(k key, l *lease) { counts[[2]string{k.app, l.inst.Status}]++ })
	for labels, n := range counts {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, n, labels[0], labels[1])
	}
}

// count counts the requests to a handler.
func (m *metrics) count(resource string, h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		h(sw, r)
		m.requests.WithLabelValues(resource, strconv.Itoa(sw.status)).Inc()
	})
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
