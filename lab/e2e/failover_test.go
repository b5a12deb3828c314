package e2e_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// move runs a failover or failback and parses its report, failed or not.
func (l *lab) move(args ...string) (moveReport, result) {
	l.t.Helper()
	r := l.flix(append(args, "--yes", "-o", "json")...)
	var m moveReport
	if r.stdout != "" {
		decode(l.t, r, &m)
	}
	return m, r
}

// evacuations lists the reports that flix keeps.
func (l *lab) evacuations() []moveReport {
	l.t.Helper()
	return read[struct {
		Evacuations []moveReport `json:"evacuations"`
	}](l, "failover", "status").Evacuations
}

// region is one region's status.
func (l *lab) region(name string) regionStatus {
	l.t.Helper()
	for _, r := range l.status().Regions {
		if r.Name == name {
			return r
		}
	}
	l.t.Fatalf("status has no region %s", name)
	return regionStatus{}
}

func failoverRefusals(l *lab) {
	before := l.plain()
	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"an unknown region", []string{"failover", "mars"}, 3, "mars"},
		{"failback of a region that is not evacuated", []string{"failback", "us-east"}, 5, "not evacuated"},
		{"failback of an unknown region", []string{"failback", "mars"}, 3, "mars"},
	} {
		l.t.Run(c.name, func(t *testing.T) {
			wantRefusal(t, l.on(t).flix(append(c.args, "--yes")...), c.code, c.says)
		})
	}
	l.wantSame(before)
}

// plain is the status without what changes by itself.
func (l *lab) plain() labStatus {
	l.t.Helper()
	s := l.status()
	s.RSSBytes = 0
	for _, r := range s.Regions {
		slices.SortFunc(r.Instances, func(a, b instanceStatus) int { return cmp.Compare(a.Name, b.Name) })
	}
	return s
}

func (l *lab) wantSame(before labStatus) {
	l.t.Helper()
	after := l.plain()
	wantUntouched(l.t, before, after)
	if !reflect.DeepEqual(before, after) {
		a, _ := json.Marshal(before)
		b, _ := json.Marshal(after)
		l.t.Errorf("the lab has changed:\n%s\n%s", a, b)
	}
}

func failoverDryRun(l *lab) {
	before := l.plain()
	m, r := l.move("failover", "us-east", "--dry-run")
	if r.code != 0 || !m.DryRun || m.Region != "us-east" || m.State != "planned" || len(m.Savers) != 2 {
		l.t.Errorf("the plan: %s", r.story())
	}
	wantFields(l.t, "plan", []byte(r.stdout), "region", "savers", "capacity", "steps")
	l.wantSame(before)
	if p := l.play(quick("us-east")...); p.Region != "us-east" {
		l.t.Errorf("after a dry run %s answers clients of us-east", p.Region)
	}
	if n := len(l.evacuations()); n != 0 {
		l.t.Errorf("failover status lists %d evacuations after a dry run", n)
	}
}

// titleTime is how many seconds a player of a title watches that is to be
// through all of what goes on, however slow the machine is: about as much as
// the title has.
const titleTime = 28

// viewers starts players near a region, in real time, and returns when the
// region's gateways have answered so many starts of a play.
func (l *lab) viewers(n int, region string, seconds int) []*command {
	l.t.Helper()
	starts := func() (sum float64) {
		for _, a := range l.addresses(region, "play", "admin") {
			sum += metric(l.t, a, "play_starts_total", `result="ok"`)
		}
		return sum
	}
	before := starts()
	var out []*command
	for range n {
		out = append(out, l.start(nil, "play", "--title", "harbor-lights", "--region", region, "--speed", "1x", "--seconds", fmt.Sprint(seconds), "-o", "json"))
	}
	await(l.t, 30*time.Second, fmt.Sprintf("%d players to start near %s", n, region), func() error {
		if s := starts(); s < before+float64(n) {
			return fmt.Errorf("%g have started", s-before)
		}
		return nil
	})
	return out
}

// wantRunning fails unless every player still plays: only then has it been
// through what went on. On containers a title may be shorter than what goes on,
// by the machine's speed: who came through a part of it counts, too.
func (l *lab) wantRunning(players []*command) {
	l.t.Helper()
	for i, c := range players {
		select {
		case <-c.done:
			if l.rt.containers() && c.result.code == 0 {
				l.t.Logf("player %d was through with its title before the end", i)
				continue
			}
			l.t.Errorf("player %d ended too early: %s", i, c.result.story())
		default:
		}
	}
}

// wantUndisturbed waits for players and fails if one of them felt anything.
func (l *lab) wantUndisturbed(players []*command, seconds float64) {
	l.t.Helper()
	for i, c := range players {
		r := c.wait()
		if r.code != 0 {
			l.t.Errorf("player %d failed: %s", i, r.story())
			continue
		}
		if r.took < time.Duration(seconds-1)*time.Second {
			l.t.Errorf("player %d took %s for %g s in real time", i, r.took, seconds)
		}
		var p playReport
		decode(l.t, r, &p)
		wantPlayed(l.t, p, seconds)
		if p.Rebuffers != 0 || len(p.Errors) != 0 {
			l.t.Errorf("player %d: %d rebuffers, errors %v", i, p.Rebuffers, p.Errors)
		}
	}
}

func failoverUnderPlayers(l *lab) {
	t := l.t
	n := 8
	if l.rt.containers() {
		n = 4 // the stores need the processors too
	}
	players := l.viewers(n, "us-east", titleTime)
	m, r := l.move("failover", "us-east")
	l.wantRunning(players)
	if r.code != 0 {
		t.Fatalf("it failed: %s", r.story())
	}
	wantFields(t, "failover", []byte(r.stdout), "region", "started", "steps", "rto_ms", "plays_during", "plays_failed", "requests_in_region_after", "savers")
	wantSteps(t, m.Steps)
	var savers []string
	for _, s := range m.Savers {
		savers = append(savers, s.Region)
	}
	slices.Sort(savers)
	if m.Region != "us-east" || m.State != "done" || m.Started.IsZero() || !slices.Equal(savers, []string{"eu-west", "us-west"}) {
		t.Errorf("report of %s, %s, started %s, savers %v", m.Region, m.State, m.Started, savers)
	}
	if m.PlaysFailed != 0 || m.PlaysDuring == 0 || m.RequestsInRegionAfter != 0 {
		t.Errorf("%d of %d plays failed, %d requests in the region afterwards", m.PlaysFailed, m.PlaysDuring, m.RequestsInRegionAfter)
	}
	if m.RTOMS <= 0 || m.RTOMS > total(m.Steps) {
		t.Errorf("rto_ms %g; the steps took %g ms", m.RTOMS, total(m.Steps))
	}
	t.Logf("RTO %.0f ms, %d plays during it, steps %v", m.RTOMS, m.PlaysDuring, m.Steps)
	if p := l.play(quick("us-east")...); p.Region == "us-east" || p.Gateway == "" {
		t.Errorf("a new play near us-east is answered by %s", p.Gateway)
	}
	l.wantUndisturbed(players, titleTime)
	if reg := l.region("us-east"); reg.State != "evacuated" || reg.Share != 0 {
		t.Errorf("us-east is %s with share %g, want evacuated and 0", reg.State, reg.Share)
	}
	wantRefusal(t, l.flix("failover", "us-east", "--yes"), 5, "evacuated already")
	if all := l.evacuations(); len(all) == 0 || all[0].Region != "us-east" || all[0].State != "done" {
		t.Errorf("failover status lists %+v", all)
	}
	// Appliances go on serving throughout: the video does not move.
	if p := l.play(quick("us-east")...); !strings.HasPrefix(p.Appliances[0].Name, "us-east/") {
		t.Errorf("the video of a client near us-east comes from %s", p.Appliances[0].Name)
	}
}

func failbackReturnsTraffic(l *lab) {
	t := l.t
	if l.region("us-east").State != "evacuated" {
		t.Fatal("us-east was not evacuated")
	}
	m, r := l.move("failback", "us-east")
	if r.code != 0 || m.State != "done" || m.PlaysFailed != 0 || m.PlaysDuring == 0 {
		t.Fatalf("it failed: %s", r.story())
	}
	await(t, 4*time.Second, "DNS to send clients of us-east to us-east again", func() error {
		if p := l.play(quick("us-east")...); p.Region != "us-east" {
			return fmt.Errorf("%s answers", p.Region)
		}
		return nil
	})
	st := l.status()
	for _, reg := range st.Regions {
		if reg.State != "ready" || reg.Share != 1 {
			t.Errorf("%s is %s with share %g", reg.Name, reg.State, reg.Share)
		}
		wantRegion(t, reg) // what was added to the savers is gone
	}
}

// TestBrokenSavers breaks the licence service of every region that would take
// the traffic: an evacuation must notice, say so, and leave viewers where they
// are served.
func TestBrokenSavers(t *testing.T) {
	for _, rt := range runtimes(t) {
		t.Run(rt.Name, func(t *testing.T) {
			rt.seldom(t)
			l := up(t, rt, "--regions", "3")
			for _, region := range []string{"us-west", "eu-west"} {
				l.must("lab", "kill", region+"/a/license/1")
			}
			players := l.viewers(2, "us-east", 8)
			m, r := l.move("failover", "us-east")
			if r.code == 0 || m.PlaysFailed == 0 || m.State == "done" {
				t.Errorf("no play failed in it: %s", r.story())
			}
			wantRefusal(t, r, r.code, "license")
			t.Logf("exit %d after %s, state %s, %d of %d plays failed", r.code, r.took, m.State, m.PlaysFailed, m.PlaysDuring)
			l.wantUndisturbed(players, 8)
			if p := l.play(quick("us-east")...); p.Region != "us-east" {
				t.Errorf("after the failed evacuation %s answers clients of us-east", p.Region)
			}
			if reg := l.region("us-east"); reg.State == "evacuated" || reg.Share != 1 {
				t.Errorf("us-east is %s with share %g", reg.State, reg.Share)
			}
			// The next up mends what was killed; then the same plan holds.
			l.up("--regions", "3")
			if m, r := l.move("failover", "us-east", "--dry-run"); r.code != 0 || len(m.Savers) != 2 {
				t.Errorf("with whole savers it is refused: %s", r.story())
			}
		})
	}
}
