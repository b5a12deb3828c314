package lab

import (
	"errors"
	"testing"

	"github.com/flix-lab/flix/lab/control"
)

// A title that no appliance holds is not live, whatever its date; without an
// answer of cache control the catalogue's word counts, but for sites asked for.
func TestTitleThatNobodyHoldsIsNotLive(t *testing.T) {
	titles := func() []control.Title {
		return []control.Title{
			{ID: "held", Live: true}, {ID: "unheld", Live: true}, {ID: "no-video"},
			{ID: "dated", Waiting: "its date has not come"}, {ID: "sites", Live: true, MinSites: 3},
		}
	}
	got := titles()
	judgeHeld(got, holdings{
		waits:  map[string]control.WaitingTitle{"sites": {Why: "2 sites hold all of it"}},
		unheld: []string{"dated", "no-video", "sites", "unheld"},
	})
	for i, why := range []string{"", noHolder, "", "its date has not come", "2 sites hold all of it"} {
		if got[i].Live != (got[i].ID == "held") || got[i].Waiting != why {
			t.Errorf("%s: live %v, %q, want %q", got[i].ID, got[i].Live, got[i].Waiting, why)
		}
	}
	got = titles()
	judgeHeld(got, holdings{err: errors.New("nobody answers")})
	if !got[0].Live || !got[1].Live || got[4].Live || got[4].Waiting == "" {
		t.Errorf("without cache control: %+v", got)
	}
}
