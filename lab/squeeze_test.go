package lab

import (
	"strings"
	"testing"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

// TestSqueezeOfAnEvacuatedRegion: none of its instances gets a request, which was
// said to be the fault of the one that was to be squeezed.
func TestSqueezeOfAnEvacuatedRegion(t *testing.T) {
	l := testLab(t, testEnv(t), "x")
	if err := l.want(preset(t, 2), 0); err != nil {
		t.Fatal(err)
	}
	region := l.current().Topology.Regions[0].Name
	r := control.SqueezeRequest{VIP: "signup", Instance: region + "/a/signup/1", P99MS: 50, StepMS: 1000, Growth: 1.5, MaxShare: 1}
	if _, err := l.squeezable(r); err != nil {
		t.Fatalf("before it is evacuated: %v", err)
	}
	if err := l.changeIntent(func(i *intent) { i.Evacuated = map[string]string{region: "ev-1"} }); err != nil {
		t.Fatal(err)
	}
	_, err := l.squeezable(r)
	if services.KindOf(err) != services.Conflict || !strings.Contains(err.Error(), region+" is evacuated") {
		t.Errorf("%v, want it to name the evacuated region", err)
	}
}
