package objects

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// metric returns the sum over the samples of a metric that have the labels,
// and how many there are.
func metric(t testing.TB, r *prometheus.Registry, name string, labels map[string]string) (sum float64) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	samples:
		for _, m := range f.GetMetric() {
			have := map[string]string{}
			for _, l := range m.GetLabel() {
				have[l.GetName()] = l.GetValue()
			}
			for k, v := range labels {
				if have[k] != v {
					continue samples
				}
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()

		}
	}
	return sum
}
