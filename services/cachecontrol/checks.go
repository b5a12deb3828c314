package cachecontrol

import (
	"fmt"
	"time"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// checks are what speaks for and against a title being on an appliance, in the
// order in which it is decided. Called with the lock held.
func (s *Server) checks(n *node, a *pb.Asset, now time.Time) []*pb.FillCheck {
	p := s.planner
	var out []*pb.FillCheck
	add := func(check string, ok bool, format string, args ...any) {
		out = append(out, &pb.FillCheck{Check: check, Ok: ok, Text: fmt.Sprintf(format, args...)})
	}
	title, f, pl := a.GetTitleId(), n.site.feed, n.site.placement
	i, _ := f.titleOf(title)
	t := f.titles[i]
	if m, ok := f.measured[title]; ok {
		add("popularity", true, "%.4g in %s: %.4g measured, %.4g expected when it was published", t.popularity, f.region, m.Forecast*halved(f.asOf.Sub(m.At), p.timing.FillWindow.D()), a.GetPopularity())
	} else {
		add("popularity", true, "%.4g, as expected when it was published; nobody in %s has streamed it", t.popularity, f.region)
	}
	add("rank", true, "%d of %d titles in %s", i+1, len(f.titles), f.region)
	if pl.unplaced == 0 && pl.popular == len(f.titles) {
		add("cut_off", true, "none: every appliance of %s has room for all %d titles", n.site.name, len(f.titles))
	} else {
		segment := "the tail, spread by storage"
		if i < pl.popular {
			segment = "the popular segment, spread by bandwidth"
		}
		add("cut_off", i < pl.popular, "it is in %s: the first %d titles (popularity %.4g and more) are popular", segment, pl.popular, pl.cutOff)
	}
	has := n.assigned.files.has(p.numbers(a)[0])
	add("capacity", has || t.bytes <= n.capacity-min(n.capacity, n.assigned.bytes), "%d of %d bytes are assigned, the title has %d", n.assigned.bytes, n.capacity, t.bytes)
	add("placement", has, "%s", s.placedText(n, a, has))
	if r := p.rules.find(rulePin, n, title); r != nil {
		add("pin", true, "pinned to %s", scopeName(r.GetScope()))
	} else {
		add("pin", false, "not pinned here")
	}
	urgent := p.rules.find(ruleUrgent, n, title)
	switch {
	case urgent != nil:
		add("window", true, "urgent in %s: the window does not matter", scopeName(urgent.GetScope()))
	case n.urgent:
		add("window", true, "a run was asked for: the window does not matter until nothing is missing")
	default:
		add("window", n.site.open(p.timing, now), "it is %s at %s; fills run for %v from %v", n.site.localTime(now), n.site.name, p.timing.FillWindow, p.timing.FillWindowStart)
	}
	if r := p.rules.find(rulePause, n, ""); r != nil {
		add("pause", false, "fills of %s are paused since %s", scopeName(r.GetScope()), time.Unix(0, r.GetVersion()).UTC().Format(time.RFC3339))
	} else {
		add("pause", true, "not paused")
	}
	if why := s.notLive(a, now); why != "" {
		add("liveness", false, "it may not be played yet: %s", why)
	} else {
		add("liveness", true, "%s all of it", count(p.sitesWith(a), "site holds", "sites hold"))
	}
	why := p.blocked(n, true, now)
	if n.paused {
		why = "" // said above
	}
	add("appliance", why == "", "%s", orText(why, "it reports and is healthy"))
	return out
}

// placedText says who of the site has a place for a title.
func (s *Server) placedText(n *node, a *pb.Asset, has bool) string {
	first := s.planner.numbers(a)[0]
	others := 0
	for _, m := range n.site.nodes {
		if m != n && m.presence != absent && m.assigned.files.has(first) {
			others++
		}
	}
	switch {
	case has:
		return fmt.Sprintf("assigned here and to %s of %s", count(others, "other appliance", "other appliances"), n.site.name)
	case others > 0:
		return fmt.Sprintf("assigned to %s of %s and not here", count(others, "other appliance", "other appliances"), n.site.name)
	}
	return fmt.Sprintf("no appliance of %s has room for it beside what is more popular", n.site.name)
}

func orText(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
