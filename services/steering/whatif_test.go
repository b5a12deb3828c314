package steering

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry/telemetrytest"
)

// The loss of an ISP's site moves its clients to an exchange, and nobody else.
func TestWhatIfASiteIsLost(t *testing.T) {
	s := benchServer(t, 3, 2)
	if _, err := s.whatIf([]string{"us-east-isp-1"}); services.KindOf(err) != services.Unavailable {
		t.Errorf("without traffic: %v", err)
	}
	inside, outside := 0, 0
	for i := range 200 {
		addr := netip.MustParseAddr(fmt.Sprintf("198.18.%d.%d", i%32, 1+i%200))
		s.sample.add(addr, "tt-0")
		if q := (query{addr: addr, want: 1}); s.first(s.table.Load(), asked{q.addr, "tt-0"}, 0).app.site == "us-east-isp-1" {
			inside++
		} else {
			outside++
		}
	}
	if inside == 0 || outside == 0 {
		t.Fatalf("%d clients inside, %d outside: the sample shows nothing", inside, outside)
	}
	w, err := s.whatIf([]string{"us-east-isp-1"})
	if err != nil {
		t.Fatal(err)
	}
	if w.Sampled != 200 || w.Moved != inside || w.Farther != inside || w.Unserved != 0 {
		t.Errorf("%+v, want %d moved", w, inside)
	}
	if w.Before["isp"] != 1 || w.After["exchange"] != float64(inside)/200 || w.Sites[0].Site != "us-east-isp-1" || w.Sites[0].After != 0 {
		t.Errorf("%+v", w)
	}
	if _, err := s.whatIf([]string{"nowhere"}); services.KindOf(err) != services.NotFound {
		t.Errorf("a site that is none: %v", err)
	}
	if _, err := s.whatIf(nil); services.KindOf(err) != services.Invalid {
		t.Errorf("no site: %v", err)
	}
}

func TestExplainNamesEveryone(t *testing.T) {
	s := benchServer(t, 3, 1)
	e, err := s.explain("198.18.0.7", "tt-0")
	if err != nil || len(e.Candidates) != 8 || e.Candidates[0].Kind != "isp" {
		t.Fatalf("%+v, %v", e, err)
	}
	seen := map[string]bool{}
	for _, d := range e.Decisions {
		seen[d.Appliance] = true
	}
	if len(seen) != len(s.model.known) {
		t.Errorf("%d of %d appliances are explained", len(seen), len(s.model.known))
	}
	for _, name := range []string{"steering_decisions_total", "steering_misses_total"} {
		if n, _ := telemetrytest.Metric(t, s.deps.Tel.Metrics, name, nil); n != 0 {
			t.Errorf("%s counts %v explanations", name, n)
		}
	}
	if _, err := s.explain("nobody", "tt-0"); services.KindOf(err) != services.Invalid {
		t.Errorf("no address: %v", err)
	}
	if _, err := s.explain("198.18.0.7", "tt-9"); services.KindOf(err) != services.NotFound {
		t.Errorf("no title: %v", err)
	}
}
