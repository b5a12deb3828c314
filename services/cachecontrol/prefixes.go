package cachecontrol

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/topology"
)

// The members of a site stand behind the same routers: when they hear different
// prefixes, a session is down or a filter is wrong, and some viewers are sent
// farther than they need.

// uneven lists the sites whose appliances, healthy or not, announce different
// prefixes. Called with the lock held.
func (s *Server) uneven() []string {
	heard := map[string][]string{}
	var out []string
	for _, a := range s.appliances {
		if !s.inLab(a) {
			continue
		}
		site := a.hello.GetSite()
		announced := a.announces()
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

// ignored lists what appliances announce and no network has to itself, which
// steering does not believe: by site, each prefix once. Called with the lock held.
func (s *Server) ignored() []*pb.IgnoredPrefix {
	var out []*pb.IgnoredPrefix
	for _, a := range s.appliances {
		if !s.inLab(a) {
			continue
		}
		for _, text := range a.announces() {
			if p, err := netip.ParsePrefix(text); err == nil && topology.CatchAll(p) {
				out = append(out, &pb.IgnoredPrefix{Site: a.hello.GetSite(), Prefix: p.Masked().String()})
			}
		}
	}
	slices.SortFunc(out, byPrefix)
	return slices.CompactFunc(out, func(a, b *pb.IgnoredPrefix) bool { return byPrefix(a, b) == 0 })
}

func byPrefix(a, b *pb.IgnoredPrefix) int {
	return cmp.Or(strings.Compare(a.GetSite(), b.GetSite()), strings.Compare(a.GetPrefix(), b.GetPrefix()))
}

// setRoutes takes up what an appliance has learned. The hello is shared with those
// who watch, so there is a new one.
func (a *appliance) setRoutes(r *pb.Routes) {
	h := proto.Clone(a.hello).(*pb.Hello)
	h.Routes = r.GetRoutes()
	a.hello = h
}

// announces lists an appliance's prefixes in order, each once. They are put in
// order once for each hello: that is seldom a new one, and sites are looked at
// all the time.
func (a *appliance) announces() []string {
	if a.announced.by != a.hello {
		out := slices.Clone(a.hello.GetPrefixes())
		for _, r := range a.hello.GetRoutes() {
			out = append(out, r.GetPrefix())
		}
		slices.Sort(out)
		a.announced = announced{a.hello, slices.Compact(out)}
	}
	return a.announced.prefixes
}

// announced is the prefixes of a hello.
type announced struct {
	by       *pb.Hello
	prefixes []string
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
