package player

import (
	"slices"
	"testing"
	"testing/synctest"
)

// A device that comes back resumes its sessions; another one never does.
func TestADeviceResumesItsSessions(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{Full, Light} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newFakeLab(t, 2, "isp")
				device := l.options()
				device.Mode, device.Tickets = mode, NewTickets()
				mustPlay(t, l, device)
				first := len(l.resumed)
				mustPlay(t, l, device)
				if again := l.resumed[first:]; l.resumed[0] || slices.Contains(again, false) {
					t.Errorf("sessions resumed by the device: at first %v, when it came back %v", l.resumed[:first], again)
				}
				other := l.options()
				other.Mode = mode
				first = len(l.resumed)
				mustPlay(t, l, other)
				if l.resumed[first] {
					t.Error("another device resumed a session")
				}
			})
		})
	}
}

func TestALeanPlayProbesRankByRank(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		dead          int // of the best appliances
		asked, chosen int
	}{
		"the best rank is enough":              {0, 2, 0},
		"one of the best rank is enough":       {1, 2, 1},
		"without the best rank comes the next": {2, 3, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newFakeLab(t, 2, "isp", "isp", "exchange")
				l.ocas[1].rank = l.ocas[0].rank
				for _, o := range l.ocas[:tt.dead] {
					o.kill()
				}
				o := l.options()
				o.Mode = Light
				r := mustPlay(t, l, o)
				var asked int
				for _, c := range r.Candidates {
					if c.ConnectMS > 0 || c.Error != "" {
						asked++
					}
				}
				if asked != tt.asked || r.Reasks != 0 || tt.chosen > 0 && !r.Candidates[tt.chosen].Chosen {
					t.Errorf("%d probed after %d reasks, %+v", asked, r.Reasks, r.Candidates)
				}
			})
		})
	}
}
