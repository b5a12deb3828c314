package cachecontrol

import "github.com/flix-lab/flix/topology"

// shed picks, of the titles an appliance asks to be relieved of, those that
// somebody else who is well holds and does not shed, too: a title shed by all
// would play nowhere, and slow is better than not at all. Called with the lock
// held.
func (s *Server) shed(a *appliance) map[string]bool {
	if len(a.report.GetShed()) == 0 {
		return nil
	}
	hidden := make(map[string]bool, len(a.report.GetShed()))
	for _, title := range a.report.GetShed() {
		if s.servedElsewhere(a, title) {
			hidden[title] = true
		}
	}
	return hidden
}

// servedElsewhere says whether for each version of a title that the appliance
// stores another one stores as many files and is well. An embedded appliance
// counts only for its own site's clients, an exchange for everybody.
func (s *Server) servedElsewhere(a *appliance, title string) bool {
	for k, t := range a.titles {
		if k.title != title {
			continue
		}
		found := false
		for _, b := range s.appliances {
			if b == a || !b.report.GetHealthy() || b.hidden[title] || b.hello.GetKind() != string(topology.SiteExchange) && b.hello.GetSite() != a.hello.GetSite() {
				continue
			}
			if other := b.titles[k]; other != nil && len(other.paths) >= len(t.paths) {
				found = true
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}
