// Package telemetrytest reads an instance's metrics in tests. It changes none.
package telemetrytest

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Metric returns the sum over the samples of a counter or gauge that have the
// labels, and how many there are.
func Metric(t testing.TB, r *prometheus.Registry, name string, labels map[string]string) (sum float64, n int) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if has(m, labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
				n++
			}
		}
	}
	return sum, n
}

func has(m *dto.Metric, labels map[string]string) bool {
	found := 0
	for _, l := range m.GetLabel() {
		want, asked := labels[l.GetName()]
		if asked && want != l.GetValue() {
			return false
		}
		if asked {
			found++
		}
	}
	return found == len(labels)
}
