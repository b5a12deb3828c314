package oca

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one appliance, in its instance's registry.
type metrics struct {
	requests, fillRequests, filled, removed  *prometheus.CounterVec
	sent, fillSent, fillFailures, reconnects prometheus.Counter
	diskErrors, quarantined, scrubbed        prometheus.Counter
}

func newMetrics(s *Server) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	gauge := func(name, help string, f func() float64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	m := &metrics{
		requests:     vec("oca_requests_total", "Requests of clients answered, by status.", "code"),
		sent:         counter("oca_bytes_sent_total", "Bytes of bodies sent to clients."),
		fillRequests: vec("oca_fill_requests_total", "Requests of other appliances answered, by status.", "code"),
		fillSent:     counter("oca_fill_bytes_sent_total", "Bytes of bodies sent to other appliances."),
		filled:       vec("oca_fill_bytes_received_total", "Bytes received by fill since start, by source.", "source"),
		fillFailures: counter("oca_fill_failures_total", "Sources and orders that failed."),
		reconnects:   counter("oca_control_streams_ended_total", "Streams to cache control that ended."),
		diskErrors:   counter("oca_disk_errors_total", "Failed operations of the disk."),
		removed:      vec("oca_files_removed_total", "Files no longer stored, by reason.", "reason"),
		quarantined:  counter("oca_quarantined_total", "Objects set aside as damaged."),
		scrubbed:     counter("oca_scrubbed_total", "Objects read by the scrubber."),
	}
	s.d.Tel.Metrics.MustRegister(m.requests, m.sent, m.fillRequests, m.fillSent, m.filled, m.fillFailures, m.reconnects, m.diskErrors, m.removed, m.quarantined, m.scrubbed,
		gauge("oca_connections", "Open connections of clients.", func() float64 { return float64(s.connections()) }),
		gauge("oca_stored_bytes", "Bytes stored.", func() float64 { used, _, _ := s.store.usage(); return float64(used) }),
		gauge("oca_stored_files", "Files stored.", func() float64 { _, files, _ := s.store.usage(); return float64(files) }),
		gauge("oca_healthy", "1 while the appliance is well.", func() float64 {
			if s.health.reason() == "" {
				return 1
			}
			return 0
		}),
	)
	if s.d.BGP != nil {
		s.d.Tel.Metrics.MustRegister(
			gauge("oca_bgp_established", "1 while there is a BGP session with the site's router.", func() float64 {
				if s.d.BGP.State().Established {
					return 1
				}
				return 0
			}),
			gauge("oca_bgp_routes", "Routes learned from the site's router.", func() float64 { return float64(s.d.BGP.State().Routes) }),
			gauge("oca_bgp_stale_routes", "Routes of a lost session that are kept for now.", func() float64 { return float64(s.d.BGP.State().Stale) }),
		)
	}
	return m
}
