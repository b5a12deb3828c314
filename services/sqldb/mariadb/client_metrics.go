package mariadb

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
)

// clientMetrics counts an instance's writes; the names are the embedded
// adapter's.
type clientMetrics struct {
	writes, confirms *prometheus.CounterVec
}

func newClientMetrics(reg prometheus.Registerer) *clientMetrics {
	return &clientMetrics{
		writes:   counterVec(reg, "sql_writes_total", "Transactions that write, by kind of error or ok.", "kind"),
		confirms: counterVec(reg, "sql_confirms_total", "Writes that asked for a second region, by how they were acknowledged: replica, alone (none connected) or late (not acknowledged: none has confirmed).", "by"),
	}
}

// counterVec registers counters, or returns those that another client of the
// instance has registered already.
func counterVec(reg prometheus.Registerer, name, help, label string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	var known prometheus.AlreadyRegisteredError
	if err := reg.Register(v); errors.As(err, &known) {
		if old, ok := known.ExistingCollector.(*prometheus.CounterVec); ok {
			return old
		}
	}
	return v
}

func (m *clientMetrics) done(how confirmation, err error) {
	kind := "ok"
	if err != nil {
		kind = string(services.KindOf(err))
	}
	m.writes.WithLabelValues(kind).Inc()
	if how != "" {
		m.confirms.WithLabelValues(string(how)).Inc()
	}
}
