package steering_test

import (
	"strings"
	"testing"

	ccpb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	pb "github.com/flix-lab/flix/services/steering/steeringpb"
)

// An exchange that announces the client's network closely is nearer than an ISP
// that announces more than it.
func TestLongestPrefixBeforeClass(t *testing.T) {
	f := start(t, patience)
	ix, isp := ixBox("us-east", 1, "203.0.113.0/24").event(), ispBox(1).event()
	isp.State.Hello.Prefixes = []string{"203.0.0.0/16"}
	f.control.tell(asset(1), ix, isp)
	r := f.until(&pb.RankRequest{ClientIp: "203.0.113.9"}, offers(2))
	if r.Candidates[0].Kind != "exchange" || r.Candidates[1].Kind != "isp" {
		t.Errorf("%v", ids(r))
	}
	ix.State.Hello.Prefixes = isp.State.Hello.Prefixes
	f.control.tell(ix)
	f.until(&pb.RankRequest{ClientIp: "203.0.113.9"}, first(isp.State.Hello.Appliance))
}

// A default route draws nobody, however it was learned and however it is cut, and
// the explanation raises the alarm.
func TestDefaultRoutesAreIgnored(t *testing.T) {
	f := start(t, patience)
	isp := ispBox(1).event()
	id := isp.State.Hello.Appliance
	isp.State.Hello.Prefixes = []string{"0.0.0.0/0", "198.18.0.0/20", "2000::/3"}
	isp.State.Hello.Routes = []*ccpb.Route{{Prefix: "128.0.0.0/1", AsPath: 1}}
	f.control.tell(append(planet(), isp)...)
	f.until(&pb.RankRequest{}, first(id)) // what else it announces counts
	for _, stranger := range []string{"203.0.113.9", "8.8.8.8", "2a00::1"} {
		r := f.until(&pb.RankRequest{ClientIp: stranger, Explain: true}, offers(4))
		for _, c := range r.Candidates {
			if c.Kind == "isp" {
				t.Errorf("%s is sent into an ISP: %v", stranger, ids(r))
			}
		}
		alarms := map[string]bool{}
		for _, d := range r.Decisions {
			if rest, ok := strings.CutPrefix(d.Why, "ALARM: announces "); ok && d.Appliance == id {
				prefix, _, _ := strings.Cut(rest, ",")
				alarms[prefix] = true
			}
		}
		if len(alarms) != 3 || !alarms["0.0.0.0/0"] || !alarms["128.0.0.0/1"] || !alarms["2000::/3"] {
			t.Errorf("%s: alarms %v", stranger, alarms)
		}
	}
}
