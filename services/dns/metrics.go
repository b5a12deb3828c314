package dns

import (
	mdns "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics of a DNS server. Labels take only values from this package, never
// what a client sent: anybody could otherwise fill the memory with names.
type metrics struct {
	queries *prometheus.CounterVec
}

func newMetrics(reg *prometheus.Registry) *metrics {
	m := &metrics{queries: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "dns_queries_total", Help: "Queries answered, by name, type, region the answer leads to, and response code.",
	}, []string{"name", "type", "answer_region", "rcode"})}
	reg.MustRegister(m.queries)
	return m
}

func (m *metrics) count(o outcome, typ uint16) {
	name, kind := o.label, "other"
	if name == "" {
		name = "other"
	}
	switch typ {
	case mdns.TypeA, mdns.TypeAAAA, mdns.TypeSRV, mdns.TypeHTTPS, mdns.TypeSOA, mdns.TypeNS, mdns.TypeANY:
		kind = mdns.TypeToString[typ]
	}
	m.queries.WithLabelValues(name, kind, o.region, mdns.RcodeToString[o.rcode]).Inc()
}
