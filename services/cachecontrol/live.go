package cachecontrol

import (
	"slices"
	"strings"
	"time"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// A title is live when its date has come and as many sites as its publisher
// asked for hold all of it. Until then it is filled and not shown to those who
// watch, so that nobody is sent to it; a version before it goes on being played
// where it is stored, unless this cache control has started since: the store has
// the newest alone.

// notLive says why a title may not be played yet; "" if it may.
func (s *Server) notLive(a *pb.Asset, now time.Time) string { return s.waits(a, now).GetWhy() }

// waits says what a title waits for; nil if it may be played.
func (s *Server) waits(a *pb.Asset, now time.Time) *pb.WaitingTitle {
	var why []string
	if at := time.UnixMilli(a.GetAvailableUnixMs()); a.GetAvailableUnixMs() > 0 && now.Before(at) {
		why = append(why, "its date has not come: "+at.UTC().Format(time.RFC3339))
	}
	have := 0
	if want := int(a.GetMinSites()); want > 1 {
		if have = s.planner.sitesWith(a); have < want {
			why = append(why, count(have, "site holds", "sites hold")+" all of it, "+count(want, "is", "are")+" asked for")
		}
	}
	if why == nil {
		return nil
	}
	return &pb.WaitingTitle{
		TitleId: a.GetTitleId(), Why: strings.Join(why, "; "),
		AvailableUnixMs: a.GetAvailableUnixMs(), MinSites: a.GetMinSites(), Sites: uint32(have),
	}
}

// sitesWith counts the sites that have an appliance with all of a title.
func (p *planner) sitesWith(a *pb.Asset) (n int) {
	files := p.numbers(a)
	for _, s := range p.sites {
		if slices.ContainsFunc(s.nodes, func(n *node) bool { return n.holdsAll(files) }) {
			n++
		}
	}
	return n
}

// holdsAll says whether an appliance that is there holds all of some files.
func (n *node) holdsAll(files []int32) bool {
	return n.presence == present && !slices.ContainsFunc(files, func(f int32) bool { return !n.held.has(f) })
}

// show tells those who watch of a title, or withholds it. Called with the lock
// held.
func (s *Server) show(a *pb.Asset) {
	if s.notLive(a, s.d.Clock()) != "" {
		s.withheld[a.GetTitleId()] = struct{}{}
		s.notify(assetKey(a.GetTitleId()))
		return
	}
	s.unveil(a)
}

// unveil tells those who watch of a title. Called with the lock held.
func (s *Server) unveil(a *pb.Asset) {
	title := a.GetTitleId()
	delete(s.withheld, title)
	s.shown[title] = a
	s.notify(assetKey(title))
}

// release shows the titles whose time has come. Called with the lock held.
func (s *Server) release(now time.Time) {
	for title := range s.withheld {
		if a := s.planner.cat.assets[title]; s.notLive(a, now) == "" {
			s.d.Tel.Log.Info("a title is live", "title", title, "version", a.GetVersion())
			s.unveil(a)
		}
	}
}

// notPlayable lists the titles that no appliance holds whole, and those that
// are not live. Called with the lock held.
func (s *Server) notPlayable(now time.Time) (unheld []string, waiting []*pb.WaitingTitle) {
	for title, a := range s.planner.cat.assets {
		if _, no := s.withheld[title]; no {
			if w := s.waits(a, now); w != nil {
				waiting = append(waiting, w)
			}
		}
		files := s.planner.numbers(a)
		if !slices.ContainsFunc(s.planner.inOrder(), func(n *node) bool { return n.holdsAll(files) }) {
			unheld = append(unheld, title)
		}
	}
	slices.Sort(unheld)
	slices.SortFunc(waiting, func(a, b *pb.WaitingTitle) int { return strings.Compare(a.GetTitleId(), b.GetTitleId()) })
	return unheld, waiting
}
