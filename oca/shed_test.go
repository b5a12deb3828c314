package oca

import (
	"slices"
	"testing"
)

// looks shows a governor the same load n times.
func looks(g *governor, n int, load float64, bytes map[string]int64) {
	for range n {
		g.look(load, bytes)
	}
}

func TestGovernorShedsTitlesBeforeItself(t *testing.T) {
	bytes := map[string]int64{"hot": 600, "warm": 300, "cold": 100}
	g := &governor{}
	looks(g, 1, 0.95, bytes)
	looks(g, 1, 0.5, bytes)
	looks(g, 1, 0.95, bytes)
	if len(g.shed) > 0 {
		t.Fatalf("shed %v at a single look", g.shed)
	}
	looks(g, 1, 0.95, bytes)
	if !slices.Equal(g.shed, []string{"hot"}) || g.overloaded {
		t.Fatalf("shed %v, overloaded %v; want the title with most traffic", g.shed, g.overloaded)
	}
	// What was shed is still being watched, so the line stays full for a
	// while; only more of it is shed, nobody is called unwell.
	looks(g, 2, 1, bytes)
	if !slices.Equal(g.shed, []string{"hot", "warm"}) || g.overloaded {
		t.Fatalf("shed %v, overloaded %v", g.shed, g.overloaded)
	}
	looks(g, 2, 1, bytes)
	looks(g, patienceFull, 1, bytes)
	if len(g.shed) != 3 || !g.overloaded {
		t.Fatalf("shed %v, overloaded %v; want everything, and then itself", g.shed, g.overloaded)
	}
	// Between the thresholds nothing comes back but its own health.
	looks(g, 20, 0.8, bytes)
	if len(g.shed) != 3 || g.overloaded {
		t.Fatalf("at 0.8: shed %v, overloaded %v", g.shed, g.overloaded)
	}
	// Then one by one, the last first.
	looks(g, patienceBelow, 0.3, nil)
	if !slices.Equal(g.shed, []string{"hot", "warm"}) {
		t.Fatalf("shed %v", g.shed)
	}
	looks(g, 2*patienceBelow, 0.3, nil)
	if len(g.shed) != 0 {
		t.Fatalf("shed %v", g.shed)
	}
}

func TestGovernorWithoutTraffic(t *testing.T) {
	g := &governor{}
	looks(g, patienceFull-1, 1, nil) // connections alone, say
	if g.overloaded {
		t.Fatal("overloaded too soon")
	}
	looks(g, 1, 1, nil)
	if !g.overloaded || len(g.shed) != 0 {
		t.Fatalf("shed %v, overloaded %v", g.shed, g.overloaded)
	}
}

func TestReportTellsWhatIsShed(t *testing.T) {
	s := newTestServer(t, nil)
	s.bandwidth.Store(8000)
	for range patienceAbove {
		s.checkHealth(sample{took: 1e9, sent: 1000, titles: map[string]int64{"tt-a": 900, "tt-b": 100}})
	}
	s.outbox.start(s.hello(nil, fillBytes{}))
	defer s.outbox.stop()
	s.report()
	q, _ := s.outbox.take()
	if r := q[len(q)-1].GetReport(); !r.GetHealthy() || !slices.Equal(r.GetShed(), []string{"tt-a"}) || r.GetLoad() != 1 {
		t.Errorf("report %v", r)
	}
}
