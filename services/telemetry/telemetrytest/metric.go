// Package telemetrytest reads an instance's metrics in tests. It changes none.
package telemetrytest

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
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
			found := 0
			for _, l := range m.GetLabel() {
				if v, asked := labels[l.GetName()]; asked && v == l.GetValue() {
					found++
				}
			}
			if found == len(labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
				n++
			}
		}
	}
	return sum, n
}
