package evcache

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// results are the counters of one kind of write.
type results struct {
	ok, error prometheus.Counter
}

// clientMetrics are the counters of the clients of one instance.
type clientMetrics struct {
	gets struct {
		hit, miss, error, fallback prometheus.Counter
	}
	sets, deletes, touches results
	zoneErrors             *prometheus.CounterVec
}

func newClientMetrics(r prometheus.Registerer) *clientMetrics {
	m := &clientMetrics{zoneErrors: counterVec(r, "evcache_zone_errors_total", "Failed operations on single zones.", "zone")}
	gets := counterVec(r, "evcache_gets_total", "Reads by result; fallback_hit is a hit in a zone other than the own.", "result")
	m.gets.hit, m.gets.miss = gets.WithLabelValues("hit"), gets.WithLabelValues("miss")
	m.gets.error, m.gets.fallback = gets.WithLabelValues("error"), gets.WithLabelValues("fallback_hit")
	m.sets = newResults(r, "evcache_sets_total", "Values stored.")
	m.deletes = newResults(r, "evcache_deletes_total", "Items deleted.")
	m.touches = newResults(r, "evcache_touches_total", "Times to live renewed.")
	return m
}

func newResults(r prometheus.Registerer, name, help string) results {
	v := counterVec(r, name, help, "result")
	return results{ok: v.WithLabelValues("ok"), error: v.WithLabelValues("error")}
}

// counterVec registers counters, or returns those that another client of the
// instance has registered already.
func counterVec(r prometheus.Registerer, name, help, label string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	var known prometheus.AlreadyRegisteredError
	if err := r.Register(v); errors.As(err, &known) {
		if old, ok := known.ExistingCollector.(*prometheus.CounterVec); ok {
			return old
		}
	}
	return v
}
