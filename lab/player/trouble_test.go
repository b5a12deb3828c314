package player

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/play"
)

func TestApplianceDiesMidPlay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 10, "isp", "exchange")
		l.ocas[0].after = func(n int64) {
			if n == 9 {
				go l.ocas[0].kill()
			}
		}
		o := l.options()
		o.Speed = 20
		r := mustPlay(t, l, o)
		if r.SecondsPlayed != 20 || r.ApplianceSwitches != 1 || len(r.Appliances) != 2 || !r.ChecksumOK || r.Reasks != 0 {
			t.Errorf("played %g s, %d appliance switches, %d reasks, appliances %+v", r.SecondsPlayed, r.ApplianceSwitches, r.Reasks, r.Appliances)
		}
		if len(r.Errors) == 0 || !strings.Contains(r.Errors[0], l.ocas[0].name) {
			t.Errorf("errors %q do not name the appliance", r.Errors)
		}
	})
}

// Who reads a report must not be able to play on by the URLs of its appliances.
func TestReportShowsNoSignedURL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 10, "isp", "exchange")
		l.ocas[0].after = func(n int64) {
			if n >= 9 {
				panic(http.ErrAbortHandler) // the connection ends before the answer begins
			}
		}
		o := l.options()
		o.Speed = 20
		r := mustPlay(t, l, o)
		if len(r.Errors) == 0 {
			t.Fatal("nothing went wrong")
		}
		for _, text := range r.Errors {
			if strings.Contains(text, "https://") {
				t.Errorf("the report shows a URL: %s", text)
			}
		}
	})
}

func TestWrongBytesAreNoticed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 6, "isp", "isp")
		l.ocas[0].flip.Store(true)
		r := mustPlay(t, l, l.options())
		if !r.ChecksumOK || r.SecondsPlayed != 12 || len(r.Errors) == 0 {
			t.Errorf("checksums %v, %g s, errors %q", r.ChecksumOK, r.SecondsPlayed, r.Errors)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.suspects) != 1 || l.suspects[0].Appliance != l.ocas[0].name || l.suspects[0].Path != "a1.mp4" || l.suspects[0].Version != fakeVersion {
			t.Errorf("suspects %+v", l.suspects)
		}
	})
}

func TestAllAppliancesFailAndThePlayAPIIsAskedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 6, "isp", "isp", "exchange")
		l.offer = func(renewal int) []*fakeOCA {
			if renewal == 0 {
				return l.ocas[:2]
			}
			return l.ocas[2:]
		}
		for _, o := range l.ocas[:2] {
			o.after = func(n int64) {
				if n > 4 {
					o.status.Store(http.StatusServiceUnavailable)
				}
			}
		}
		r := mustPlay(t, l, l.options())
		if r.Reasks != 1 || r.SecondsPlayed != 12 || len(r.Candidates) != 3 || r.Appliances[len(r.Appliances)-1].Kind != "exchange" {
			t.Errorf("%d reasks, %g s, appliances %+v", r.Reasks, r.SecondsPlayed, r.Appliances)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.renews) != 1 || len(l.renews[0].Broken) != 2 || l.renews[0].License != "licence" {
			t.Errorf("renewals %+v", l.renews)
		}
	})
}

func TestNothingDeliversIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 4, "isp")
		l.ocas[0].status.Store(http.StatusNotFound)
		dir := t.TempDir()
		o := l.options()
		o.Save = filepath.Join(dir, "out.mp4")
		r, err := l.play(t, l.config(), o)
		if services.ReasonOf(err) != services.ReasonPlayFailed || services.KindOf(err) != services.Unavailable {
			t.Fatalf("got %v", err)
		}
		if r.ChecksumOK || r.SecondsPlayed != 0 || r.Reasks != maxReasks || r.TitleID != fakeTitle {
			t.Errorf("the report says %+v", r)
		}
		left, _ := os.ReadDir(dir)
		if len(left) != 0 {
			t.Errorf("%v is left behind", left)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if last := l.reports[len(l.reports)-1]; last.Kind != "stop" || l.reports[len(l.reports)-2].Kind != "error" {
			t.Errorf("the reports end with %+v", l.reports[len(l.reports)-2:])
		}
	})
}

func TestBandwidthPicksTheRung(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		bits    int64
		seconds float64
		want    func(Report) bool
	}{
		// As 300k in real time, four times as fast.
		{"1200k", 1_200_000, 8, func(r Report) bool { return rungIDs(r) == "v1" }},
		{"20M", 20_000_000, 10, func(r Report) bool { return r.Rungs[len(r.Rungs)-1].ID == "v3" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newFakeLab(t, 5, "isp")
				o := l.options()
				o.Speed, o.Seconds = 4, tc.seconds
				if err := o.Bandwidth.UnmarshalText([]byte(tc.name)); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				r := mustPlay(t, l, o)
				if !tc.want(r) || r.SecondsPlayed != tc.seconds {
					t.Errorf("played %g s of %s", r.SecondsPlayed, rungIDs(r))
				}
				// The cap is real: bytes ÷ time stays below it, bursts aside.
				if bits := float64(r.Bytes) * 8 / time.Since(start).Seconds(); bits > float64(tc.bits)*1.1 {
					t.Errorf("received at %.0f bit/s over a link of %d", bits, tc.bits)
				}
			})
		})
	}
}

func TestSlowApplianceIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 4, "isp", "exchange")
		l.ocas[0].after = func(n int64) {
			if n == 6 {
				l.ocas[0].rate.Store(2000)
			}
		}
		o := l.options()
		o.Speed = 8
		r := mustPlay(t, l, o)
		if r.ApplianceSwitches == 0 || !strings.Contains(strings.Join(r.Errors, "\n"), errSlow.Error()) {
			t.Errorf("%d appliance switches, errors %q", r.ApplianceSwitches, r.Errors)
		}
	})
}

func TestDNSFailsOverToTheNextRegion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 2, "isp")
		silent := l.wire.listen() // takes queries, answers none
		defer silent.Close()
		c := l.config()
		c.Topology.Timing.RPCTimeout /= 4
		c.Resolvers = []Resolver{{Region: "us-west", Address: l.dns}, {Region: "us-east", Address: silent.Addr().String()}}
		r, err := l.play(t, c, l.options())
		if err != nil || r.SecondsPlayed != 4 {
			t.Errorf("%g s, %v", r.SecondsPlayed, err)
		}
	})
}

func TestControlCallsAreTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 2, "isp")
		down := services.Errorf(services.Unavailable, "the region is leaving")
		l.refuse[play.PathStart] = []error{down, down}
		r := mustPlay(t, l, l.options())
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.starts != 1 || r.SecondsPlayed != 4 {
			t.Errorf("%d plays were started, %g s played", l.starts, r.SecondsPlayed)
		}
	})
}

func TestTheAPIMovesMidPlay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 10, "isp")
		moved := make(chan struct{})
		l.ocas[0].after = func(n int64) {
			if n == 8 {
				go func() { defer close(moved); l.moveAPI() }()
			}
		}
		o := l.options()
		o.Speed = 8
		r := mustPlay(t, l, o)
		<-moved
		if r.SecondsPlayed != 20 || r.Rebuffers != 0 {
			t.Errorf("%g s, %d rebuffers", r.SecondsPlayed, r.Rebuffers)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		var bytes uint64
		for _, in := range l.reports {
			bytes += in.Bytes
		}
		if last := l.reports[len(l.reports)-1]; last.Kind != "stop" || bytes < r.Bytes {
			t.Errorf("the last report is %+v; %d bytes reported of %d; errors %q", last, bytes, r.Bytes, r.Errors)
		}
	})
}
