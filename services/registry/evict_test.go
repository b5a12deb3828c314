package registry

import (
	"fmt"
	"testing"
	"time"

	"github.com/flix-lab/flix/services/lookup/eureka"
	"github.com/flix-lab/flix/services/telemetry"
)

// A few leases are kept while most of every zone ran out, for some time: a lost
// zone, a killed service and the dead go as soon as their leases run out.
func TestFewLeasesThatAllRunOutAreKept(t *testing.T) {
	const duration = 3 * time.Second
	now := time.Unix(1000, 0)
	out := func(k key) bool { return true }
	for name, c := range map[string]struct {
		zones  string // of the instances, ten in each
		silent time.Duration
		out    func(k key) bool
		props  map[string]string
		want   int // evicted
	}{
		"everything":                {"ab", 4 * time.Second, out, nil, 0},
		"most of each zone":         {"abc", 4 * time.Second, func(k key) bool { return k.id[1] < '7' }, nil, 0},
		"everything for long":       {"ab", 31 * time.Second, out, nil, 20},
		"a zone of two":             {"ab", 4 * time.Second, func(k key) bool { return k.id[0] == 'b' }, nil, 10},
		"two zones of three":        {"abc", 4 * time.Second, func(k key) bool { return k.id[0] != 'b' }, nil, 20},
		"a zone and half the other": {"ab", 4 * time.Second, func(k key) bool { return k.id[0] == 'b' || k.id[1] < '5' }, nil, 15},
		"a service":                 {"ab", 4 * time.Second, func(k key) bool { return k.app == "APP-1" }, nil, 2},
		"the only zone":             {"a", 4 * time.Second, out, nil, 10},
		"an exempt application":     {"ab", 4 * time.Second, out, map[string]string{"registry.selfPreservation.app-1": "off"}, 2},
		"switched off":              {"ab", 4 * time.Second, out, map[string]string{"registry.selfPreservation": "off"}, 20},
	} {
		leases := map[key]*lease{}
		var expired []key
		for _, zone := range c.zones {
			for n := range 10 {
				k := key{fmt.Sprintf("APP-%d", n), fmt.Sprintf("%c%d", zone, n)}
				leases[k] = &lease{key: k, inst: &eureka.Instance{Metadata: map[string]string{"zone": string(zone)}}, duration: duration, renewed: now}
				if c.out(k) {
					leases[k].renewed = now.Add(-c.silent)
					expired = append(expired, k)
				}
			}
		}
		p := newPreservation(telemetry.NewProperties(c.props))
		if got := len(p.allow(now, leases, expired)); got != c.want {
			t.Errorf("%s: %d of %d are evicted, want %d", name, got, len(leases), c.want)
		}
		if kept := int(p.kept.Load()); kept != len(expired)-c.want && c.want != 2 || p.active.Load() != (kept > 0) {
			t.Errorf("%s: %d are kept, active %t", name, kept, p.active.Load())
		}
	}
}
