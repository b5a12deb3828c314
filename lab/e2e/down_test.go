package e2e_test

import (
	"testing"
)

// TestKeepData takes a lab down but for its data, and up again.
func TestKeepData(t *testing.T) {
	for _, rt := range runtimes(t) {
		t.Run(rt.Name, func(t *testing.T) {
			l := up(t, rt, "--regions", "2")
			l.play(quick("us-east")...)
			before, ports := l.fill(), l.portNumbers()
			r := l.must("lab", "down", "--keep-data", "-o", "json")
			wantFields(t, "down", []byte(r.stdout), "name", "processes", "kept")
			for _, p := range l.processes() {
				t.Errorf("process left after down: %s", p)
			}
			l.wantClosed(ports)
			if _, r := l.move("failover", "us-east"); r.code == 0 {
				t.Error("a lab that is down can be evacuated")
			}
			l.up("--regions", "2")
			for _, region := range []string{"us-east", "us-west"} {
				wantPlayed(t, l.play(quick(region)...), 6)
			}
			after := l.fill()
			for _, a := range after.Appliances {
				if a.Held != a.Assigned {
					t.Errorf("%s holds %d of %d files", a.Name, a.Held, a.Assigned)
				}
				// The lives' totals are kept with the data: nothing is added.
				was := before.appliance(t, a.Name)
				if a.CacheFillBytes != was.CacheFillBytes || a.TierFillBytes != was.TierFillBytes || a.PeerFillBytes != was.PeerFillBytes {
					t.Errorf("%s filled again: %+v before, %+v now", a.Name, was, a)
				}
			}
			if after.OriginEgressBytes > before.OriginEgressBytes {
				t.Errorf("origin egress rose from %d to %d bytes", before.OriginEgressBytes, after.OriginEgressBytes)
			}
		})
	}
}

// TestDownTwice takes a lab down, and a second time.
func TestDownTwice(t *testing.T) {
	for _, rt := range runtimes(t) {
		t.Run(rt.Name, func(t *testing.T) {
			l := up(t, rt, "--regions", "1")
			ports := l.portNumbers()
			r := l.must("lab", "down", "-o", "json")
			var res struct {
				Name      string  `json:"name"`
				Processes int     `json:"processes"`
				MS        float64 `json:"ms"`
			}
			decode(t, r, &res)
			if res.Name != l.name || res.Processes == 0 {
				t.Errorf("down says %+v", res)
			}
			t.Logf("down after %.0f ms", res.MS)
			l.wantNothingLeft()
			l.wantClosed(ports)
			wantRefusal(t, l.flix("lab", "down"), 20, "there is no lab")
		})
	}
}
