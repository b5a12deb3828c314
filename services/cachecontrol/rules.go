package cachecontrol

import (
	"cmp"
	"maps"
	"slices"
	"time"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// Kinds of rules.
const (
	// rulePause gives the appliances of its scope no new orders; what is under
	// way is finished, and what they hold is served.
	rulePause = "pause"
	// rulePin assigns a title to the appliances of its scope, before what
	// popularity says.
	rulePin = "pin"
	// ruleUrgent puts a title first, and fills it outside the window, too.
	ruleUrgent = "urgent"
)

// ruleKey names a rule; a newer version of it takes its place.
type ruleKey struct{ kind, scope, title string }

func keyOfRule(r *pb.FillRule) ruleKey { return ruleKey{r.GetKind(), r.GetScope(), r.GetTitleId()} }

func (k ruleKey) String() string { return k.kind + "/" + k.scope + "/" + k.title }

// rules are what operators want, ended ones too, whose versions still count.
type rules map[ruleKey]*pb.FillRule

// put takes a rule unless a version as new is known; it says whether the rule
// is news.
func (rs rules) put(r *pb.FillRule) bool {
	k := keyOfRule(r)
	if old := rs[k]; old.GetVersion() >= r.GetVersion() {
		return false
	}
	rs[k] = r
	return true
}

// forget lets go of rules that ended so long ago that the store has let go of
// them, too.
func (rs rules) forget(now time.Time) {
	maps.DeleteFunc(rs, func(_ ruleKey, r *pb.FillRule) bool {
		return !r.GetActive() && now.Sub(time.Unix(0, r.GetVersion())) > endedRule
	})
}

// active lists the rules in force, in order.
func (rs rules) active() []*pb.FillRule {
	var out []*pb.FillRule
	for _, k := range slices.SortedFunc(maps.Keys(rs), func(a, b ruleKey) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.scope, b.scope), cmp.Compare(a.title, b.title))
	}) {
		if rs[k].GetActive() {
			out = append(out, rs[k])
		}
	}
	return out
}

// covers says whether a scope holds an appliance.
func covers(scope string, n *node) bool {
	return scope == "" || scope == n.id || scope == n.site.name || scope == n.site.region
}

// scopeName is a scope for people.
func scopeName(scope string) string { return cmp.Or(scope, "the lab") }

// find returns the rule of a kind that covers the appliance, for the title if
// the kind has one; nil if there is none.
func (rs rules) find(kind string, n *node, title string) *pb.FillRule {
	for _, scope := range []string{n.id, n.site.name, n.site.region, ""} {
		if r := rs[ruleKey{kind, scope, title}]; r.GetActive() {
			return r
		}
	}
	return nil
}

// setRule takes a rule in. It says whether the rule is news.
func (p *planner) setRule(r *pb.FillRule) bool {
	if !p.rules.put(r) {
		return false
	}
	switch r.GetKind() {
	case rulePause:
		for _, n := range p.nodes {
			if was := n.paused; covers(r.GetScope(), n) {
				n.paused = p.rules.find(rulePause, n, "") != nil
				if was != n.paused {
					if was {
						n.site.advance(p.now)
					}
					p.wakeRegion(n.site)
				}
			}
		}
	case rulePin:
		for _, s := range p.sites {
			s.unplaced = true
		}
	case ruleUrgent:
		p.cat.stale = true
	}
	return true
}

// pins says for each pinned title at which of the shares it has to be.
func (p *planner) pins(s *site, shares []share) map[string][]int {
	var out map[string][]int
	for _, r := range p.rules.active() {
		if r.GetKind() != rulePin {
			continue
		}
		for at := range shares {
			if covers(r.GetScope(), shares[at].node) {
				if out == nil {
					out = map[string][]int{}
				}
				out[r.GetTitleId()] = append(out[r.GetTitleId()], at)
			}
		}
	}
	return out
}

// urgentIn lists the titles that are urgent somewhere in a region.
func (p *planner) urgentIn(region string) map[string]bool {
	out := map[string]bool{}
	for k, r := range p.rules {
		if k.kind != ruleUrgent || !r.GetActive() {
			continue
		}
		if k.scope == "" || k.scope == region || slices.ContainsFunc(p.near[region], func(s *site) bool { return s.covered(k.scope) }) {
			out[k.title] = true
		}
	}
	return out
}

// covered says whether a scope is the site or one of its appliances.
func (s *site) covered(scope string) bool {
	return s.name == scope || slices.ContainsFunc(s.nodes, func(n *node) bool { return n.id == scope })
}
