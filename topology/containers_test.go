package topology

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestContainersOr takes what is left open, and nothing else, from the other.
func TestContainersOr(t *testing.T) {
	have := Containers{Profile: Standard, Pack: PackZone, Network: HostNetwork, Registry: "registry.example.org", Images: map[string]string{"kafka": "k:1"}}
	if d := cmp.Diff(have, Containers{}.Or(have)); d != "" {
		t.Errorf("of nothing (-want +got):\n%s", d)
	}
	own := Containers{Profile: Small, Pack: PackInstance, Network: BridgeNetwork, Registry: "r", Images: map[string]string{"s3": "s:2"}}
	if d := cmp.Diff(own, own.Or(have)); d != "" {
		t.Errorf("of what says all (-want +got):\n%s", d)
	}
	want := have
	want.Pack = PackInstance
	if d := cmp.Diff(want, Containers{Pack: PackInstance}.Or(have)); d != "" {
		t.Errorf("of a pack alone (-want +got):\n%s", d)
	}
}
