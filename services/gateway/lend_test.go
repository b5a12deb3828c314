package gateway

import (
	"sync"
	"testing"
)

// lacks is what regions lack, for tests to change.
type lacks struct {
	mu sync.Mutex
	of map[string]string
}

func (l *lacks) set(region, role string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of[region] = role
}

func (l *lacks) in(region string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of[region]
}

// A region that lacks a service has its requests answered in the nearest one that
// is whole, for as long as it does; with none that is, by itself.
func TestRegionThatLacksAServiceLends(t *testing.T) {
	w := newWorld(t)
	have := &lacks{of: map[string]string{}}
	var edges []*edge
	for _, region := range []string{"us-east", "us-west", "eu-west"} {
		e := w.gateway(region, func(d *Deps) { d.Lacks = have.in })
		e.api("play", region+"/a/play/1", echo(region))
		edges = append(edges, e)
	}
	east := edges[0]
	c := east.client(eastClient, true)
	by := func() string {
		t.Helper()
		return ask(t, c, "POST", "/play/x", "body", "Authorization", w.member("m-1")).seen(t).By
	}
	for _, step := range []struct{ region, lack, by string }{
		{"us-east", "", "us-east"},
		{"us-east", "license", "us-west"},
		{"us-west", "sql", "eu-west"},
		{"eu-west", "sql", "us-east"},
		{"us-west", "", "us-west"},
		{"us-east", "", "us-east"},
	} {
		have.set(step.region, step.lack)
		if got := by(); got != step.by {
			t.Errorf("with %v %s answers, want %s", have.of, got, step.by)
		}
	}
	// One that was passed on is answered where it arrives: it goes no further.
	have.set("us-west", "")
	have.set("us-east", "license")
	east.set(PropertyEvacuate, `{"share":1,"savers":["us-west"]}`)
	have.set("us-west", "license")
	if got := by(); got != "us-west" {
		t.Errorf("%s answers what was sent to us-west", got)
	}
}
