package cachecontrol

import (
	"fmt"
	"slices"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// The members of a site stand behind the same routers: when they hear different
// prefixes, a session is down or a filter is wrong, and some viewers are sent
// farther than they need.

// uneven lists the sites whose connected, healthy or not, appliances announce
// different prefixes. Called with the lock held.
func (s *Server) uneven() []string {
	heard := map[string][]string{}
	var out []string
	for _, a := range s.appliances {
		if !s.inLab(a) {
			continue
		}
		site := a.hello.GetSite()
		announced := announcedBy(a.hello)
		first, ok := heard[site]
		if !ok {
			heard[site] = announced
			continue
		}
		if !slices.Equal(first, announced) && !slices.Contains(out, site) {
			out = append(out, site)
		}
	}
	slices.Sort(out)
	return out
}

// announcedBy lists an appliance's prefixes in order, each once.
func announcedBy(h *pb.Hello) []string {
	out := slices.Clone(h.GetPrefixes())
	for _, r := range h.GetRoutes() {
		out = append(out, r.GetPrefix())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// watchPrefixes raises the alarm when a site begins to announce unevenly, and
// says when that is over. Called with the lock held.
func (s *Server) watchPrefixes() {
	now := s.uneven()
	for _, site := range now {
		if !slices.Contains(s.unevenSites, site) {
			s.metrics.uneven.Inc()
			s.d.Tel.Log.Warn("the appliances of a site announce different prefixes", "site", site)
			s.events.alarm(site, fmt.Sprintf("the appliances of %s announce different prefixes", site))
		}
	}
	for _, site := range s.unevenSites {
		if !slices.Contains(now, site) {
			s.d.Tel.Log.Info("the appliances of a site announce the same prefixes again", "site", site)
		}
	}
	s.unevenSites = now
}
