package player

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flix-lab/flix/lab/player/abr"
	"github.com/flix-lab/flix/lab/wan"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/play"
	"github.com/flix-lab/flix/services/signup"
	"github.com/flix-lab/flix/topology"
)

func mustPlay(t *testing.T, l *fakeLab, o Options) Report {
	t.Helper()
	r, err := l.play(t, l.config(), o)
	if err != nil {
		t.Fatalf("%v; errors on the way: %q", err, r.Errors)
	}
	return r
}

func rungIDs(r Report) string {
	var ids []string
	for _, p := range r.Rungs {
		ids = append(ids, p.ID)
	}
	return strings.Join(ids, " ")
}

func TestPlayGoesTheWholeWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 8, "isp", "isp", "exchange")
		c := l.config()
		var seen []Progress
		c.Observe = func(p Progress) { seen = append(seen, p) }
		r, err := l.play(t, c, l.options())
		if err != nil {
			t.Fatal(err)
		}
		if r.TitleID != fakeTitle || r.Region != "us-east" || r.Gateway != "us-east/a/gateway/1" || r.ISP != "us-east-isp-1" {
			t.Errorf("the report says %+v", r)
		}
		if r.SecondsPlayed != 16 || r.Segments != 16 || !r.ChecksumOK || len(r.Errors) != 0 || r.ApplianceSwitches != 0 || r.Reasks != 0 {
			t.Errorf("played %g s in %d segments, checksums %v, errors %q", r.SecondsPlayed, r.Segments, r.ChecksumOK, r.Errors)
		}
		if !slices.ContainsFunc(r.Rungs, func(p PlayedRung) bool { return p.ID == "v3" }) || r.MeanKbps < 150 {
			t.Errorf("an unshaped player played %s", rungIDs(r))
		}
		if len(r.Candidates) != 3 || len(r.Appliances) != 1 || r.Appliances[0].Name != l.ocas[0].name || r.Appliances[0].Bytes != r.Bytes || !r.Candidates[0].Chosen || r.Candidates[0].TLSMS == 0 || r.Candidates[2].TLSMS != 0 {
			t.Errorf("candidates %+v, appliances %+v", r.Candidates, r.Appliances)
		}
		if r.PlayDelayMS <= 0 || r.PlayDelayMS > 2000 {
			t.Errorf("play delay %g ms", r.PlayDelayMS)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.clients[r.ClientIP] || len(l.clients) != 1 {
			t.Errorf("the API saw clients %v, want only %s", l.clients, r.ClientIP)
		}
		if want := netip.PrefixFrom(netip.MustParseAddr(r.ClientIP), 24).Masked().String(); !l.subnets[want] {
			t.Errorf("DNS saw subnets %v, want %s", l.subnets, want)
		}
		if !l.parents[r.TraceID] || len(l.parents) != 1 {
			t.Errorf("requests carried traces %v, want only %s", l.parents, r.TraceID)
		}
		for _, want := range []string{hostDiscovery + signup.PathSignin, hostDiscovery + "/discovery/search", hostPlay + play.PathStart, hostPlay + play.PathReport} {
			if !slices.Contains(l.requests, want) {
				t.Errorf("no request for %s in %v", want, l.requests)
			}
		}
		checkReports(t, l.reports, r)
		checkSpans(t, c, r)
		if len(seen) == 0 || seen[len(seen)-1].State != "ended" || seen[len(seen)-1].PositionS != 16 {
			t.Errorf("observed %+v", seen)
		}
	})
}

func checkReports(t *testing.T, reports []play.ReportRequest, r Report) {
	t.Helper()
	if len(reports) < 3 || reports[0].Kind != "start" || reports[1].Kind != "progress" {
		t.Fatalf("reports %+v", reports)
	}
	var bytes uint64
	for i, in := range reports {
		bytes += in.Bytes
		if in.Sequence != uint64(i+1) || in.Session != r.SessionID {
			t.Errorf("report %d is %+v", i, in)
		}
	}
	last := reports[len(reports)-1]
	if last.Kind != "stop" || last.License != "licence" || last.PositionS != 16 || bytes != r.Bytes {
		t.Errorf("the last report is %+v, %d bytes in all, want %d", last, bytes, r.Bytes)
	}
}

func checkSpans(t *testing.T, c Config, r Report) {
	t.Helper()
	names := map[string]int{}
	for _, s := range c.Tel.Spans(r.TraceID) {
		name, _, _ := strings.Cut(s.Name, " ")
		names[name]++
	}
	for _, want := range []string{"play", "dns", "signin", "search", "start", "probe", "fetch"} {
		if names[want] == 0 {
			t.Errorf("no span %q among %v", want, names)
		}
	}
	if names["fetch"] < 17 {
		t.Errorf("%d fetch spans, want one for each object", names["fetch"])
	}
}

func TestReportJSON(t *testing.T) {
	b, err := json.Marshal(Report{})
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	for _, f := range strings.Fields("title_id session_id region gateway client_ip isp candidates appliances play_delay_ms seconds_played rungs mean_kbps switches rebuffers rebuffer_ratio appliance_switches bytes segments checksum_ok errors trace_id") {
		if _, ok := m[f]; !ok {
			t.Errorf("the report has no field %s", f)
		}
	}
}

func TestPlayOverTheWAN(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const rtt = 60 * time.Millisecond
		l := newFakeLab(t, 3, "isp", "exchange")
		c := l.config()
		c.Topology.Links = []topology.Link{{Between: [2]string{"us-east", "us-west"}, RTT: topology.Duration(rtt)}}
		api := l.api.ln.Addr().String()
		far := l.ocas[0].ln.Addr().String()
		c.Dial = wan.NewTableOver(l.wire.dial, c.Topology, func(addr string) (string, bool) {
			if addr == api || addr == far {
				return "us-west", true
			}
			return "us-east", true
		}).Dialer
		o := l.options()
		o.Speed, o.Bandwidth = 10, 50_000_000
		r, err := l.play(t, c, o)
		if err != nil || r.SecondsPlayed != 6 {
			t.Fatalf("%g s, %v", r.SecondsPlayed, err)
		}
		if far, near := r.Candidates[0].ConnectMS, r.Candidates[1].ConnectMS; far < 60 || near >= far {
			t.Errorf("connects took %g ms to the far appliance and %g ms to the near one", far, near)
		}
		// Connect, handshake and request of the play connection, then two or more
		// round trips to the far appliance.
		if r.PlayDelayMS < 5*60 {
			t.Errorf("a play delay of %g ms over %v", r.PlayDelayMS, rtt)
		}
	})
}

func TestPlayFromAnIPv6Address(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 2, "isp")
		o := l.options()
		o.IP = netip.MustParseAddr("2001:db8::25")
		o.Token, o.Email, o.Password = "member-token", "", ""
		r := mustPlay(t, l, o)
		l.mu.Lock()
		defer l.mu.Unlock()
		if r.ClientIP != "2001:db8::25" || !l.clients[r.ClientIP] || len(l.clients) != 1 {
			t.Errorf("the API saw clients %v, want only %s", l.clients, r.ClientIP)
		}
	})
}

func TestRefusalsPassThrough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 2, "isp")
		denied := services.Errorf(services.Denied, "Harbor Lights is not licensed in JP").WithReason(services.ReasonNotLicensed).WithRemedy("play another")
		l.refuse[play.PathStart] = []error{denied}
		r, err := l.play(t, l.config(), l.options())
		var e *services.Error
		if services.KindOf(err) != services.Denied || services.ReasonOf(err) != services.ReasonNotLicensed || !errors.As(err, &e) || e.Remedy != "play another" {
			t.Errorf("got %v", err)
		}
		if r.TitleID != fakeTitle || r.TraceID == "" || len(l.requests) != 3 {
			t.Errorf("report %+v, requests %v", r, l.requests)
		}
	})
}

func TestUnknownTitleNamesNearMatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 2, "isp")
		o := l.options()
		o.Title = "Harbour Lights"
		_, err := l.play(t, l.config(), o)
		if services.ReasonOf(err) != services.ReasonNoTitle || !strings.Contains(err.Error(), "Harbor Lights (tt-harbor-lights)") {
			t.Errorf("got %v", err)
		}
	})
}

func TestReportsThatFailDoNotFailThePlay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 2, "isp")
		for range 64 {
			l.refuse[play.PathReport] = append(l.refuse[play.PathReport], services.Errorf(services.Invalid, "no"))
		}
		r := mustPlay(t, l, l.options())
		if len(r.Errors) < 2 || r.SecondsPlayed != 4 {
			t.Errorf("errors %q", r.Errors)
		}
	})
}

func TestCancelledPlaySaysStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 30, "isp")
		p, err := New(l.config())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		l.ocas[0].after = func(n int64) {
			if n == 8 {
				cancel()
			}
		}
		o := l.options()
		o.Speed = 1
		if _, err := p.Play(ctx, o); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the context's error", err)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if last := l.reports[len(l.reports)-1]; last.Kind != "stop" || last.License == "" {
			t.Errorf("the last report is %+v", last)
		}
	})
}

func TestBookmarkAndSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 8, "isp")
		l.position = 5.5
		o := l.options()
		o.Seconds, o.Resume = 3, true
		r := mustPlay(t, l, o)
		if r.StartPositionS != 4 || r.SecondsPlayed != 3 || r.Segments != 4 {
			t.Errorf("from %g s, %g s in %d segments", r.StartPositionS, r.SecondsPlayed, r.Segments)
		}
		o.Resume = false
		if r := mustPlay(t, l, o); r.StartPositionS != 0 {
			t.Errorf("without Resume it began at %g s, want 0", r.StartPositionS)
		}
	})
}

func TestClientAbroad(t *testing.T) {
	topo, err := topology.Preset(3)
	if err != nil {
		t.Fatal(err)
	}
	p, err := placeOf(topo, Options{Country: "fr", Seed: 7})
	if err != nil || p.isp.Country != "FR" || topo.CountryOf(p.ip) != "FR" || p.home != topo.Regions[0].Name {
		t.Errorf("place = %+v, %v, want an address in FR near %s", p, err, topo.Regions[0].Name)
	}
}

func TestHeightLimitsTheRungs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 6, "isp")
		o := l.options()
		o.Height = 360
		if r := mustPlay(t, l, o); strings.Contains(rungIDs(r), "v3") {
			t.Errorf("played %s though 360 lines were asked for", rungIDs(r))
		}
	})
}

func TestSaveThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 2, "isp") // its tracks are no MP4
		dir := t.TempDir()
		o := l.options()
		o.Save = filepath.Join(dir, "out.mp4")
		if _, err := l.play(t, l.config(), o); err == nil || !bytes.Contains([]byte(err.Error()), []byte("save")) {
			t.Errorf("got %v", err)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("%v is left behind", left)
		}
	})
}

func TestAFarApplianceDoesNotHoldUpTheStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const rtt = 10 * time.Second
		l := newFakeLab(t, 3, "isp", "exchange", "exchange")
		c := l.config()
		c.Topology.Timing.ProbeTimeout = topology.Duration(2 * rtt)
		c.Topology.Links = []topology.Link{{Between: [2]string{"us-east", "us-west"}, RTT: topology.Duration(rtt)}}
		far := l.ocas[2].ln.Addr().String()
		c.Dial = wan.NewTableOver(l.wire.dial, c.Topology, func(addr string) (string, bool) {
			if addr == far {
				return "us-west", true
			}
			return "us-east", true
		}).Dialer
		began := time.Now()
		r, err := l.play(t, c, l.options())
		if err != nil || r.SecondsPlayed != 6 || !r.Candidates[0].Chosen {
			t.Fatalf("%g s, candidates %+v, %v", r.SecondsPlayed, r.Candidates, err)
		}
		if took := time.Since(began); took > rtt/2 || r.PlayDelayMS > millis(rtt/2) {
			t.Errorf("the play took %v with a delay of %g ms beside an appliance %v away", took, r.PlayDelayMS, rtt)
		}
		if last := r.Candidates[2]; last.ConnectMS != 0 || last.Error != "" {
			t.Errorf("a probe that the play outran is booked as %+v", last)
		}
	})
}

func TestAPreferredApplianceIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const rtt = 100 * time.Millisecond
		l := newFakeLab(t, 3, "isp", "exchange")
		c := l.config()
		c.Topology.Links = []topology.Link{{Between: [2]string{"us-east", "us-west"}, RTT: topology.Duration(rtt)}}
		best := l.ocas[0].ln.Addr().String()
		c.Dial = wan.NewTableOver(l.wire.dial, c.Topology, func(addr string) (string, bool) {
			if addr == best {
				return "us-west", true
			}
			return "us-east", true
		}).Dialer
		r, err := l.play(t, c, l.options())
		if err != nil || len(r.Appliances) != 1 || r.Appliances[0].Name != l.ocas[0].name {
			t.Errorf("streamed from %+v, %v", r.Appliances, err)
		}
		if r.Candidates[1].TLSMS == 0 {
			t.Errorf("the near one was not secured meanwhile: %+v", r.Candidates)
		}
	})
}

func TestAnApplianceThatCannotBeSecuredIsPassedOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 3, "isp", "isp", "exchange")
		plain := l.wire.listen() // takes connections, speaks no TLS
		defer plain.Close()
		srv := &http.Server{}
		go func() { _ = srv.Serve(plain) }()
		defer srv.Close()
		l.ocas[0].fakeServer = &fakeServer{ln: plain, srv: srv}
		l.ocas[2].kill()
		r := mustPlay(t, l, l.options())
		if len(r.Appliances) != 1 || r.Appliances[0].Name != l.ocas[1].name || r.Reasks != 0 {
			t.Errorf("streamed from %+v after %d reasks", r.Appliances, r.Reasks)
		}
		for i, want := range []bool{true, false, true} {
			if c := r.Candidates[i]; (c.Error != "") != want || c.Chosen == want {
				t.Errorf("candidate %d is booked as %+v", i, c)
			}
		}
	})
}

// TestADownloadIsGivenUp when its appliance turns slow in the middle of it: a
// lower rung is taken from the same one, and nothing wrong is played.
func TestADownloadIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 12, "isp")
		// In real time a top segment is 225 kB. The title plays fast at first; from
		// some request on the appliance sends 60 kB/s, that is 480 kbit/s.
		l.topo.Timing.FetchPatience = topology.Duration(time.Minute)
		l.ocas[0].after = func(n int64) {
			if n == 8 {
				l.ocas[0].rate.Store(60_000)
			}
		}
		o := l.options()
		o.Speed, o.Seconds = 2, 14
		r := mustPlay(t, l, o)
		if r.Abandoned == 0 || r.WastedBytes == 0 {
			t.Errorf("nothing was given up: %s, errors %q", rungIDs(r), r.Errors)
		}
		if r.SecondsPlayed != 14 || !r.ChecksumOK || r.ApplianceSwitches != 0 || len(r.Errors) != 0 {
			t.Errorf("%+v", r)
		}
		n := 0
		for _, x := range r.Rungs {
			n += x.Segments
		}
		if n != 7 {
			t.Errorf("%d segments of 2 s were played in 14 s: %s", n, rungIDs(r))
		}
	})
}

// TestSegmentsAreReplaced once the network turns out to be fast: what was
// buffered in a low rung plays in a better one, and is saved so.
func TestSegmentsAreReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 20, "isp")
		l.ocas[0].rate.Store(90_000)
		l.ocas[0].after = func(n int64) {
			if n == 16 {
				l.ocas[0].rate.Store(0)
			}
		}
		o := l.options()
		o.Speed, o.Seconds = 1.5, 22
		r := mustPlay(t, l, o)
		if r.Replaced == 0 {
			t.Errorf("nothing was replaced: %s", rungIDs(r))
		}
		n := 0
		for _, x := range r.Rungs {
			n += x.Segments
		}
		if r.SecondsPlayed != 22 || !r.ChecksumOK || n != 11 {
			t.Errorf("%d segments played: %+v", n, r)
		}
	})
}

// TestEveryAlgorithmPlays a title to its end.
func TestEveryAlgorithmPlays(t *testing.T) {
	t.Parallel()
	for _, name := range abr.Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newFakeLab(t, 6, "isp")
				o := l.options()
				o.ABR = name
				r := mustPlay(t, l, o)
				if r.SecondsPlayed != 12 || !r.ChecksumOK || r.ABR != name || len(r.Errors) != 0 || r.Appliances[0].Share != 1 {
					t.Errorf("%+v", r)
				}
			})
		})
	}
}
