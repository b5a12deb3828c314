package player

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/flix-lab/flix/services/play"
)

// TestALeanProbeDoubtsWrongBytes passes by the best rank for what it sent before.
func TestALeanProbeDoubtsWrongBytes(t *testing.T) {
	t.Parallel()
	s := &session{conn: &connector{}, now: time.Now, wrong: map[string]bool{"near": true}}
	s.opts.Mode = Light
	p := s.newProbing(t.Context(), []play.Appliance{{Name: "near", URL: "https://near.test/"}, {Name: "far", Rank: 1, URL: "https://far.test/"}})
	defer p.cancel()
	var asked []string
	p.spawn = func(func(context.Context) outcome) {}
	p.open()
	for _, src := range p.sources {
		if src.stage == connecting {
			asked = append(asked, src.Name)
		}
	}
	if !slices.Equal(asked, []string{"far"}) {
		t.Errorf("it connects to %q", asked)
	}
}

func TestTheFirstThatNothingCanComeBeforeIsChosen(t *testing.T) {
	t.Parallel()
	type probe struct {
		rank           int
		stage          stage
		connect, ready time.Duration
		wrong          bool
	}
	const ms = time.Millisecond
	for _, tc := range []struct {
		name   string
		probes []probe
		want   int // index of the chosen one, -1 for nobody
		open   bool
	}{
		{name: "nothing is known", probes: []probe{{rank: 0}, {rank: 1}}, open: true},
		{name: "of one rank the first", probes: []probe{{rank: 0}, {rank: 0, stage: secured, connect: ms, ready: 2 * ms}}, want: 1},
		{name: "the sooner of two", probes: []probe{{stage: secured, connect: ms, ready: 4 * ms}, {stage: secured, connect: 2 * ms, ready: 3 * ms}}, want: 1},
		{name: "a handshake is under way", probes: []probe{{stage: securing, connect: ms}, {stage: securing, connect: 2 * ms}}, open: true},
		{name: "a better one is awaited", probes: []probe{{rank: 0}, {rank: 1, stage: secured, connect: ms, ready: 2 * ms}}, open: true},
		{name: "a better one has failed", probes: []probe{{rank: 0, stage: failed}, {rank: 1, stage: secured, connect: ms, ready: 2 * ms}, {rank: 2}}, want: 1},
		{name: "the secured ones have failed", probes: []probe{{stage: failed}, {stage: failed}, {stage: reached, connect: ms}, {stage: reached, connect: 2 * ms}}, want: 2},
		{name: "all have failed", probes: []probe{{stage: failed}, {stage: failed}}, want: -1},
		{name: "none was offered", want: -1},
		{name: "wrong bytes are the last resort", probes: []probe{{stage: secured, connect: ms, ready: 2 * ms, wrong: true}, {rank: 3}}, open: true},
		{name: "the last resort", probes: []probe{{stage: secured, connect: ms, ready: 2 * ms, wrong: true}, {rank: 3, stage: failed}}, want: 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &session{wrong: map[string]bool{}}
			p := &probing{s: s}
			for i, x := range tc.probes {
				src := &source{Appliance: play.Appliance{Name: string(rune('a' + i)), Rank: x.rank}, stage: x.stage, connect: unknown, ready: unknown}
				if x.connect != 0 {
					src.connect = x.connect
				}
				if x.ready != 0 {
					src.ready = x.ready
				}
				s.wrong[src.Name] = x.wrong
				p.offered = append(p.offered, src)
			}
			p.sources = slices.Clone(p.offered)
			slices.SortStableFunc(p.sources, s.prefer)
			if p.decided() == tc.open {
				t.Fatalf("decided is %v", p.decided())
			}
			if got := slices.Index(p.offered, p.best()); !tc.open && got != tc.want {
				t.Errorf("chose %d, want %d", got, tc.want)
			}
		})
	}
}
