package steering

import (
	"sync"
	"time"

	"github.com/flix-lab/flix/services"
	ccpb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// waits are the titles that cache control withholds. The watch loop writes them,
// in the map that refusals read.
type waits struct {
	shown *sync.Map
	round map[string]uint64 // of the stream, by title
}

func (w *waits) is(t *ccpb.WaitingTitle, round uint64) {
	w.shown.Store(t.GetTitleId(), t)
	w.round[t.GetTitleId()] = round
}

func (w *waits) gone(title string) {
	if _, ok := w.round[title]; ok {
		delete(w.round, title)
		w.shown.Delete(title)
	}
}

// end forgets what a snapshot left out.
func (w *waits) end(round uint64) {
	for title, r := range w.round {
		if r != round {
			w.gone(title)
		}
	}
}

// notLive is the refusal of a title that may not be played yet. It tells what
// the title waits for, and not how far that is: this is heard once.
func notLive(w *ccpb.WaitingTitle) error {
	e := services.Errorf(services.Conflict, "steering.Rank: %s is not live yet", w.GetTitleId()).WithReason(services.ReasonNotLive)
	if ms := w.GetAvailableUnixMs(); ms > time.Now().UnixMilli() {
		e.Msg += ": its date is " + time.UnixMilli(ms).UTC().Format(time.RFC3339)
		return e.WithRemedy("play it then")
	}
	if w.GetMinSites() > 1 {
		e = services.Errorf(services.Conflict, "steering.Rank: %s is not live before %d sites hold all of it", w.GetTitleId(), w.GetMinSites()).WithReason(services.ReasonNotLive)
	}
	return e.WithRemedy("wait until its fill is done: flix fill status")
}
