package lab

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/topology"
)

// A title is live when its date has come and as many sites as its publisher asked
// for, one appliance at least, hold all of it. The date stands in the catalogue;
// what the sites hold is known to cache control.

// sites counts the Open Connect sites of a topology that have appliances.
func sites(t topology.Topology) (n int) {
	for _, r := range t.Regions {
		if len(r.Exchange.Appliances) > 0 {
			n++
		}
		for _, i := range r.ISPs {
			if len(i.Appliances) > 0 {
				n++
			}
		}
	}
	return n
}

// checkSites refuses a title that could never be played here.
func (l *Lab) checkSites(min int) error {
	i, err := l.need()
	if err != nil {
		return err
	}
	if have := sites(i.Topology); min < 0 || min > have {
		return services.Errorf(services.Invalid, "--min-sites: %d sites shall hold the title, and the lab has %d", min, have).
			WithRemedy("use 0 to %d; flix lab topology show names the sites", have)
	}
	return nil
}

// noHolder says why a title that everything else allows does not play.
const noHolder = "no appliance holds all of it"

// judgeLive corrects which titles are live, and says of the others why not. The
// catalogue is shown without cache control, too, and then says what is not known.
func (l *Lab) judgeLive(ctx context.Context, titles []control.Title) {
	asks := false
	now := time.Now()
	for i := range titles {
		t := &titles[i]
		if now.Before(t.Available) {
			t.Waiting = "its date has not come: " + t.Available.UTC().Format(time.RFC3339)
		}
		asks = asks || t.Live || t.MinSites > 1
	}
	if asks {
		judgeHeld(titles, l.heldTitles(ctx))
	}
}

// holdings is what cache control says of titles: why those wait that may not be
// played yet, by id, and which ones no appliance holds whole.
type holdings struct {
	waits  map[string]control.WaitingTitle
	unheld []string
	err    error
}

// judgeHeld corrects by what the sites hold which titles are live.
func judgeHeld(titles []control.Title, h holdings) {
	for i := range titles {
		t := &titles[i]
		if w, ok := h.waits[t.ID]; ok {
			t.Live, t.Waiting = false, w.Why
		} else if h.err != nil && t.MinSites > 1 && t.Live {
			t.Live, t.Waiting = false, fmt.Sprintf("no cache control says whether %d sites hold all of it", t.MinSites)
		} else if t.Live && slices.Contains(h.unheld, t.ID) {
			t.Live, t.Waiting = false, noHolder
		}
	}
}

// heldTitles asks cache control what the sites hold of the titles.
func (l *Lab) heldTitles(ctx context.Context) holdings {
	h := holdings{waits: map[string]control.WaitingTitle{}}
	h.err = l.anyCacheControl(ctx, func(ctx context.Context, cc cachecontrolpb.CacheControlClient) error {
		rep, err := cc.FillStatus(ctx, &cachecontrolpb.FillStatusRequest{})
		for _, w := range waitsOf(rep.GetWaits()) {
			h.waits[w.Title] = w
		}
		h.unheld = rep.GetUnheld()
		return err
	})
	return h
}

func waitsOf(ws []*cachecontrolpb.WaitingTitle) []control.WaitingTitle {
	out := []control.WaitingTitle{}
	for _, w := range ws {
		x := control.WaitingTitle{Title: w.GetTitleId(), Why: w.GetWhy(), MinSites: int(w.GetMinSites()), Sites: int(w.GetSites())}
		if ms := w.GetAvailableUnixMs(); ms > 0 {
			x.Available = time.UnixMilli(ms).UTC()
		}
		out = append(out, x)
	}
	return out
}

// proveLive plays the title that was added, or says what it waits for.
func (l *Lab) proveLive(ctx context.Context, t *control.Title) (string, error) {
	one := []control.Title{*t}
	l.judgeLive(ctx, one)
	// What no appliance holds may come yet: the play waits, and says what holds it up.
	if one[0].Waiting != "" && one[0].Waiting != noHolder {
		*t = one[0]
		return "not yet: " + t.Waiting, nil
	}
	err := l.playTitle(ctx, *t)
	if err == nil {
		t.Live, t.Waiting = true, ""
		return "it plays", nil
	}
	// A site lost some of it just now, or its copies are behind.
	if services.ReasonOf(err) == services.ReasonNotLive && t.MinSites > 1 {
		t.Live, t.Waiting = false, fmt.Sprintf("%d sites have to hold all of it", t.MinSites)
		return "not yet: " + t.Waiting, nil
	}
	return "", err
}
