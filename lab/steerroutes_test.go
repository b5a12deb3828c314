package lab

import (
	"fmt"
	"strings"
	"testing"

	"github.com/flix-lab/flix/oca/bgp"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// TestTableLargerThanASessionTakes refuses what a router would announce in vain; a
// prefix that is there twice counts once.
func TestTableLargerThanASessionTakes(t *testing.T) {
	top := preset(t, 1)
	top.BGP = true
	i := &intent{Name: "t", Topology: top}
	site := ""
	declares := 0
	for _, inst := range i.instances() {
		if inst.Role == topology.RoleOCA && inst.Site != nil {
			site, declares = inst.Site.Name, len(inst.Site.Prefixes)
			break
		}
	}
	table := func(routes int) *topology.RouteTable {
		var b strings.Builder
		for n := range routes {
			fmt.Fprintf(&b, "100.%d.%d.%d/32 %s\n", n>>16, n>>8&255, n&255, site)
		}
		fmt.Fprintf(&b, "100.0.0.0/32 %s 3\n", site)
		parsed, err := topology.ParseRoutes("table.txt", strings.NewReader(b.String()))
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	most := bgp.DefaultMaxRoutes - declares
	if err := learnable(i, "table.txt", table(most)); err != nil {
		t.Error(err)
	}
	err := learnable(i, "table.txt", table(most+1))
	if services.KindOf(err) != services.Invalid || !strings.Contains(fmt.Sprint(err), fmt.Sprint(bgp.DefaultMaxRoutes+1)) || !strings.Contains(fmt.Sprint(err), site) {
		t.Errorf("%v", err)
	}
}
