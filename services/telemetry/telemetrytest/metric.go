// Package telemetrytest reads an instance's metrics in tests. It changes none.
package telemetrytest

import (
	"testing"
	"time"

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

// patience bounds Await.
const patience = time.Minute

// Await waits until the sum is what is wanted: what an answer counts, it counts
// after its client has read it whole.
func Await(t testing.TB, r *prometheus.Registry, name string, labels map[string]string, want float64) {
	t.Helper()
	for until := time.Now().Add(patience); ; <-time.After(time.Millisecond) {
		sum, n := Metric(t, r, name, labels)
		if n > 0 && sum == want {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%s%v = %v in %d series, want %v", name, labels, sum, n, want)
		}
	}
}
