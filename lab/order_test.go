package lab

import (
	"slices"
	"testing"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/topology"
)

// specsOf lists the instances of a planet of three regions; sidecars says that
// real stores serve it.
func specsOf(t *testing.T, sidecars bool) []runtime.Spec {
	t.Helper()
	top, err := topology.Preset(3)
	if err != nil {
		t.Fatal(err)
	}
	stores := []topology.Role{topology.RoleKV, topology.RoleKafka, topology.RoleSQL, topology.RoleEVCache, topology.RoleSearch, topology.RoleS3}
	var out []runtime.Spec
	for _, i := range top.Instances() {
		out = append(out, runtime.Spec{Instance: i, Sidecar: sidecars && slices.Contains(stores, i.Role)})
	}
	return out
}

func TestByNeed(t *testing.T) {
	all := specsOf(t, true)
	first, later := byNeed(all, all, topology.PackInstance)
	if len(first)+len(later) != len(all) {
		t.Fatalf("%d first and %d later of %d", len(first), len(later), len(all))
	}
	count := map[string]map[topology.Role]int{}
	for _, s := range first {
		if count[s.Region] == nil {
			count[s.Region] = map[topology.Role]int{}
		}
		count[s.Region][s.Role]++
		if s.Site != nil && s.Site.Kind != topology.SiteExchange {
			t.Errorf("%s comes first: an exchange's does", s.ID)
		}
	}
	for region, n := range count {
		for _, role := range inNeed {
			if n[role] != 1 {
				t.Errorf("%s: %d of %s come first, want 1", region, n[role], role)
			}
		}
		for _, role := range []topology.Role{topology.RoleKV, topology.RoleSQL, topology.RoleEVCache, topology.RoleS3, topology.RoleOCA} {
			if n[role] == 0 {
				t.Errorf("%s: no %s comes first, and no title would play", region, role)
			}
		}
		for _, role := range []topology.Role{topology.RoleKafka, topology.RoleSearch, topology.RoleTranscode, topology.RoleKeystone} {
			if n[role] != 0 {
				t.Errorf("%s: %d of %s come first: a title plays without", region, n[role], role)
			}
		}
	}
	if len(count) != 3 {
		t.Errorf("instances of %d regions come first", len(count))
	}
	// One of two that was there already does not make the other needed.
	rest := slices.DeleteFunc(slices.Clone(all), func(s runtime.Spec) bool { return s.Role == topology.RolePlay && s.Number == 1 })
	if first, _ := byNeed(rest, all, topology.PackInstance); slices.ContainsFunc(first, func(s runtime.Spec) bool { return s.Role == topology.RolePlay }) {
		t.Error("a second play comes first though the first one runs")
	}
}

// TestByNeedPacked starts no container twice: what is in it comes with it, the
// transcoder whose image it needs too.
func TestByNeedPacked(t *testing.T) {
	all := specsOf(t, true)
	first, later := byNeed(all, all, topology.PackZone)
	packs := map[string]bool{}
	for _, s := range first {
		if !s.Sidecar {
			packs[s.Region+"/"+s.Zone] = true
		}
	}
	for _, s := range later {
		if !s.Sidecar && packs[s.Region+"/"+s.Zone] {
			t.Errorf("%s comes later than others of its container", s.ID)
		}
	}
	if len(later) == 0 || !slices.ContainsFunc(first, func(s runtime.Spec) bool { return s.Role == topology.RoleTranscode }) {
		t.Errorf("%d come later; a zone's transcoder is to come with its zone", len(later))
	}
}

func TestByNeedWithoutStores(t *testing.T) {
	all := specsOf(t, false)
	if first, later := byNeed(all, all, topology.PackInstance); len(first) != len(all) || len(later) != 0 {
		t.Errorf("%d first and %d later of %d", len(first), len(later), len(all))
	}
}
