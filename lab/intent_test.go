package lab

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/flix-lab/flix/topology"
)

func sampleIntent(t *testing.T) *intent {
	top := preset(t, 2)
	i := &intent{
		Name: "x", ID: "id", Runtime: "embedded", Topology: top,
		Extra:     []topology.Instance{topology.NewInstance(top.Regions[0], topology.RolePlay, 3)},
		Stopped:   map[string]bool{"us-east/a/kv/1": true},
		Evacuated: map[string]string{"us-west": "ev-1"},
		Moving:    &moving{ID: "ev-2", Verb: "failover", Region: "us-east"},
	}
	i.setProperty("us-east", topology.RoleGateway, "evacuate.share", "0.5")
	return i
}

// TestIntentCloneIsDeep changes everything that a copy could share.
func TestIntentCloneIsDeep(t *testing.T) {
	i, same := sampleIntent(t), sampleIntent(t)
	c, err := i.clone()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c, i) {
		t.Errorf("the copy differs:\n%+v\n%+v", c, i)
	}
	c.Stopped["other"] = true
	c.Evacuated["us-east"] = "ev-9"
	c.Moving.Region = "mars"
	c.Extra[0].Ports[0] = "changed"
	c.setProperty("us-east", topology.RoleGateway, "evacuate.share", "1")
	c.Topology.Regions[0].Zones[0] = "z"
	c.Topology.Regions[0].ISPs[0].Appliances[0].Capacity = 1
	c.Topology.Links[0].RTT = 1
	if !reflect.DeepEqual(i, same) {
		t.Errorf("a change of the copy changed the original:\n%+v", i)
	}
}

func TestIntentOnDisk(t *testing.T) {
	dir := t.TempDir()
	if i, err := readIntent(dir); i != nil || err != nil {
		t.Errorf("of a lab that was never up: %+v, %v", i, err)
	}
	want := sampleIntent(t)
	for range 2 { // the second replaces the first
		if err := want.write(dir); err != nil {
			t.Fatal(err)
		}
	}
	got, err := readIntent(dir)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read back (error %v):\n%+v\nwant\n%+v", err, got, want)
	}
	st, err := os.Stat(intentPath(dir))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (error %v), want 0600", st.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.new")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	mustWrite(t, intentPath(dir), `{"name":`)
	if _, err := readIntent(dir); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("a damaged intent: %v", err)
	}
}

func TestIntentInstances(t *testing.T) {
	i := sampleIntent(t)
	declared := len(i.Topology.Instances())
	i.Extra = append(i.Extra, topology.Instance{ID: "mars/a/play/3", Region: "mars", Role: topology.RolePlay})
	got := i.instances()
	if len(got) != declared+1 || got[declared].ID != "us-east/a/play/3" {
		t.Errorf("%d instances, the last %s; want %d and us-east/a/play/3", len(got), got[len(got)-1].ID, declared+1)
	}
}

func TestSetProperty(t *testing.T) {
	i := &intent{}
	i.setProperty("r", topology.RoleDNS, "weight", "0")
	i.setProperty("r", topology.RoleDNS, "other", "1")
	i.setProperty("r", topology.RoleDNS, "weight", "")
	if got := i.Properties["r"][topology.RoleDNS]; !reflect.DeepEqual(got, map[string]string{"other": "1"}) {
		t.Errorf("properties %v", got)
	}
}
