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
		hit, miss, error, fallback, hot, alien prometheus.Counter
	}
	sets, adds, deletes, touches results
	zoneErrors, told             *prometheus.CounterVec
	hotBytes                     prometheus.Gauge
}

func newClientMetrics(r prometheus.Registerer) *clientMetrics {
	m := &clientMetrics{zoneErrors: counterVec(r, "evcache_zone_errors_total", "Failed operations on single zones.", "zone")}
	gets := counterVec(r, "evcache_gets_total", "Reads by result; fallback_hit is a hit in a zone other than the own, hot_hit one in the process, alien an item of another key, torn or not to be decoded, which counts as a miss, too.", "result")
	m.gets.hot, m.gets.alien = gets.WithLabelValues("hot_hit"), gets.WithLabelValues("alien")
	m.gets.hit, m.gets.miss = gets.WithLabelValues("hit"), gets.WithLabelValues("miss")
	m.gets.error, m.gets.fallback = gets.WithLabelValues("error"), gets.WithLabelValues("fallback_hit")
	m.sets = newResults(r, "evcache_sets_total", "Values stored.")
	m.adds = newResults(r, "evcache_adds_total", "Values added or appended.")
	m.told = counterVec(r, "evcache_events_total", "Writes told to other regions (replicate) and to repairers (repair), by result: ok or lost.", "what", "result")
	m.hotBytes = gauge(r, "evcache_hot_bytes", "Bytes of hot keys' values kept in the process.")
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
func counterVec(r prometheus.Registerer, name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	var known prometheus.AlreadyRegisteredError
	if err := r.Register(v); errors.As(err, &known) {
		if old, ok := known.ExistingCollector.(*prometheus.CounterVec); ok {
			return old
		}
	}
	return v
}

// gauge registers a gauge, or returns that of another client of the instance.
func gauge(r prometheus.Registerer, name, help string) prometheus.Gauge {
	v := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	var known prometheus.AlreadyRegisteredError
	if err := r.Register(v); errors.As(err, &known) {
		if old, ok := known.ExistingCollector.(prometheus.Gauge); ok {
			return old
		}
	}
	return v
}
