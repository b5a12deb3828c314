package steering

import (
	"cmp"
	"maps"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/steering/steeringpb"
	"github.com/flix-lab/flix/services/telemetry"
)

// Explained is one decision with what it was made of.
type Explained struct {
	ClientIP string `json:"client_ip"`
	TitleID  string `json:"title_id"`
	Version  uint64 `json:"version"`
	// Candidates are best first, at most ten.
	Candidates []Ranked   `json:"candidates"`
	Decisions  []Decision `json:"decisions"`
	// Error says why there is no candidate.
	Error string `json:"error,omitempty"`
}

// Ranked is an appliance of an answer; equal ranks are equally near.
type Ranked struct {
	Rank      uint32 `json:"rank"`
	Appliance string `json:"appliance"`
	Site      string `json:"site"`
	Kind      string `json:"kind"`
	Region    string `json:"region"`
}

// Decision is what one filter said of one appliance.
type Decision struct {
	Appliance string `json:"appliance"`
	Filter    string `json:"filter"`
	Struck    bool   `json:"struck"`
	Why       string `json:"why,omitempty"`
}

// WhatIf compares decisions as they are with those without some sites, for a
// sample of the latest clients that asked.
type WhatIf struct {
	Lost []string `json:"lost"`
	// Sampled decisions were made anew; Moved of them name another appliance
	// first, and Unserved nobody any more.
	Sampled  int `json:"sampled"`
	Moved    int `json:"moved"`
	Unserved int `json:"unserved"`
	// Farther is how many of the moved get a farther class of site first.
	Farther int `json:"farther"`
	// Before and After are the share of first choices by class of site: isp,
	// exchange, transit, none.
	Before map[string]float64 `json:"before"`
	After  map[string]float64 `json:"after"`
	// Sites are those that gain or lose first choices, biggest change first.
	Sites []SiteShare `json:"sites"`
}

// SiteShare is a site's share of first choices.
type SiteShare struct {
	Site   string  `json:"site"`
	Before float64 `json:"before"`
	After  float64 `json:"after"`
}

// RegisterAdmin adds steering's admin paths:
//
//	GET /steering/explain?ip=A&title=T   Explained
//	GET /steering/whatif?lose=SITE[&…]   WhatIf
//	GET /steering/misses                 Misses
func (s *Server) RegisterAdmin(mux *http.ServeMux, key string) {
	mux.Handle("GET /steering/explain", telemetry.Guard(key, func(w http.ResponseWriter, r *http.Request) {
		answer(w, func() (any, error) { return s.explain(r.URL.Query().Get("ip"), r.URL.Query().Get("title")) })
	}))
	mux.Handle("GET /steering/misses", telemetry.Guard(key, func(w http.ResponseWriter, _ *http.Request) {
		telemetry.WriteJSON(w, http.StatusOK, s.tally.list())
	}))
	mux.Handle("GET /steering/whatif", telemetry.Guard(key, func(w http.ResponseWriter, r *http.Request) {
		answer(w, func() (any, error) { return s.whatIf(r.URL.Query()["lose"]) })
	}))
}

func answer(w http.ResponseWriter, f func() (any, error)) {
	v, err := f()
	if err != nil {
		telemetry.WriteJSON(w, services.KindOf(err).HTTPStatus(), services.ProblemOf(err))
		return
	}
	telemetry.WriteJSON(w, http.StatusOK, v)
}

func (s *Server) explain(ip, titleID string) (Explained, error) {
	out := Explained{ClientIP: ip, TitleID: titleID, Candidates: []Ranked{}, Decisions: []Decision{}}
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return out, services.Errorf(services.Invalid, "ip: %q is no IP address", ip).WithRemedy("write it like 198.18.0.7 or 2001:db8::1")
	}
	q := query{addr: addr.Unmap().WithZone(""), nowMS: time.Now().UnixMilli(), want: most, log: &explanation{}}
	t := s.table.Load()
	if _, ok := s.decide(&q, t, titleID); !ok {
		result, err := s.none(&q, titleID)
		if result == resultNotLive {
			return out, err
		}
		out.Error = err.Error()
	}
	if q.title == nil {
		return out, services.Errorf(services.NotFound, "no appliance knows the title %q", titleID).WithReason(services.ReasonNoReplica).WithRemedy("flix title ls lists the titles")
	}
	out.Version = q.title.version
	for _, c := range t.candidates(&q) {
		out.Candidates = append(out.Candidates, Ranked{c.GetRank(), c.GetAppliance(), c.GetSite(), c.GetKind(), c.GetRegion()})
	}
	for _, d := range q.log.decisions(t, &q) {
		out.Decisions = append(out.Decisions, decisionOf(d))
	}
	return out, nil
}

func decisionOf(d *pb.Decision) Decision {
	return Decision{d.GetAppliance(), d.GetFilter(), d.GetStruck(), d.GetWhy()}
}

// whatIf makes the sample's decisions twice: as things are, and without the
// sites.
func (s *Server) whatIf(lose []string) (WhatIf, error) {
	t := s.table.Load()
	out := WhatIf{Lost: lose, Before: map[string]float64{}, After: map[string]float64{}, Sites: []SiteShare{}}
	known := map[string]bool{}
	for _, a := range t.byID() {
		known[a.site] = true
	}
	if len(lose) == 0 {
		return out, services.Errorf(services.Invalid, "lose: no site was named").WithRemedy("name one of the sites")
	}
	for _, site := range lose {
		if !known[site] {
			return out, services.Errorf(services.NotFound, "there is no site %q", site).WithRemedy("the sites are %s", services.List(slices.Sorted(maps.Keys(known))))
		}
	}
	without := *t
	without.apps, without.present = slices.Clone(t.apps), slices.Clone(t.present)
	for slot, a := range without.apps {
		if a != nil && slices.Contains(lose, a.site) {
			without.apps[slot] = nil
			without.present[slot/64] &^= 1 << (slot % 64)
		}
	}
	sites := map[string]*SiteShare{}
	at := func(name string) *SiteShare {
		if sites[name] == nil {
			sites[name] = &SiteShare{Site: name}
		}
		return sites[name]
	}
	now := time.Now().UnixMilli()
	for _, a := range s.sample.list() {
		before, after := s.first(t, a, now), s.first(&without, a, now)
		out.Sampled++
		out.Before[before.class]++
		out.After[after.class]++
		if before.app != nil {
			at(before.app.site).Before++
		}
		if after.app != nil {
			at(after.app.site).After++
		}
		switch {
		case before.app == after.app:
		case after.app == nil:
			out.Unserved++
		default:
			out.Moved++
			if after.near > before.near {
				out.Farther++
			}
		}
	}
	if out.Sampled == 0 {
		return out, services.Errorf(services.Unavailable, "nobody has asked this instance yet, so there is no traffic to compare").WithRemedy("play something first")
	}
	share := func(m map[string]float64) {
		for k := range m {
			m[k] /= float64(out.Sampled)
		}
	}
	share(out.Before)
	share(out.After)
	for _, x := range sites {
		if x.Before != x.After {
			out.Sites = append(out.Sites, SiteShare{x.Site, x.Before / float64(out.Sampled), x.After / float64(out.Sampled)})
		}
	}
	slices.SortFunc(out.Sites, func(a, b SiteShare) int {
		return cmp.Or(-cmp.Compare(math.Abs(a.After-a.Before), math.Abs(b.After-b.Before)), cmp.Compare(a.Site, b.Site))
	})
	return out, nil
}

// choice is whom a decision names first.
type choice struct {
	app   *appliance
	class string
	near  class
}

// first decides for a client that asked, without counting.
func (s *Server) first(t *table, a asked, nowMS int64) choice {
	q := query{addr: a.addr, nowMS: nowMS, want: 1}
	if _, ok := s.decide(&q, t, a.title); !ok {
		return choice{class: "none", near: transit + 1}
	}
	return choice{app: t.apps[q.picks[0].slot], class: [kinds]string{"none", "isp", "exchange", "transit"}[t.kindOf(&q.picks[0])], near: q.picks[0].class}
}
