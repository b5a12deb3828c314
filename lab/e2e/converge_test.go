package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestConverge grows and shrinks a lab under players, then evacuates as far as
// that goes in a lab of two regions.
func TestConverge(t *testing.T) {
	for _, rt := range runtimes(t) {
		t.Run(rt.Name, func(t *testing.T) {
			l := up(t, rt, "--regions", "2")
			t.Run("grow", func(t *testing.T) { addingARegionInterruptsNobody(l.on(t)) })
			t.Run("shrink", func(t *testing.T) { removingARegionLeavesTheOthers(l.on(t)) })
			t.Run("declare otherwise", func(t *testing.T) { whatIsDeclaredOtherwiseStartsAnew(l.on(t)) })
			t.Run("last region", func(t *testing.T) { lastRegionIsNotEvacuated(l.on(t)) })
		})
	}
}

func addingARegionInterruptsNobody(l *lab) {
	t := l.t
	before := l.status()
	players := l.viewers(2, "us-east", titleTime)
	res := l.up("--regions", "3")
	if !l.rt.containers() { // a region of real stores takes longer to come than a title
		l.wantRunning(players)
	}
	if len(res.Regions) != 3 || res.Changes.Removed != 0 || res.Changes.Added != res.Instances-before.Instances || res.Changes.Added == 0 {
		t.Errorf("regions %v, %d instances before and %d now, changes %+v", res.Regions, before.Instances, res.Instances, res.Changes)
	}
	wantUntouched(t, before, l.status())
	if p := l.play(quick("eu-west")...); p.Region != "eu-west" {
		t.Errorf("a play near the new region is answered by %s", p.Region)
	}
	if f := l.fill(); f.OriginEgressRatio != 1 {
		t.Errorf("origin egress ratio %g after a region was added", f.OriginEgressRatio)
	}
	l.wantUndisturbed(players, titleTime)
}

// whatIsDeclaredOtherwiseStartsAnew gives one appliance another line: it alone starts
// anew, and players go on.
func whatIsDeclaredOtherwiseStartsAnew(l *lab) {
	t := l.t
	preset := l.must("lab", "topology", "show", "--regions", "2").stdout
	const line = "bandwidth: 100Gbit"
	file := filepath.Join(t.TempDir(), "slower.yaml")
	if err := os.WriteFile(file, []byte(strings.Replace(preset, line, "bandwidth: 90Gbit", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	before := l.status()
	players := l.viewers(2, "us-east", titleTime)
	res := l.up("--topology", file)
	if res.Changes.Renewed != 1 || res.Changes.Added != 0 || res.Changes.Removed != 0 {
		t.Fatalf("of %q once otherwise in\n%s\nchanges %+v", line, tail(preset, 10), res.Changes)
	}
	now, anew := instances(l.status()), ""
	for name, was := range instances(before) {
		if !now[name].Started.Equal(was.Started) {
			anew += name + " "
		}
	}
	if strings.Count(anew, "/oca/") != 1 || strings.Count(anew, " ") != 1 {
		t.Errorf("started anew: %s; want one appliance", anew)
	}
	l.must("lab", "diff")
	l.wantUndisturbed(players, titleTime)
	if res := l.up("--topology", file); res.Changes.Renewed != 0 {
		t.Errorf("a second up with the same file: changes %+v", res.Changes)
	}
	if res := l.up("--regions", "2"); res.Changes.Renewed != 1 {
		t.Errorf("back to the preset: changes %+v", res.Changes)
	}
}

func removingARegionLeavesTheOthers(l *lab) {
	t := l.t
	before := l.status()
	gone := l.portsOf("eu-west")
	players := l.viewers(2, "us-west", titleTime)
	res := l.up("--regions", "2")
	l.wantRunning(players)
	after := l.status()
	if len(after.Regions) != 2 || res.Changes.Added != 0 || res.Changes.Removed != before.Instances-after.Instances || res.Changes.Removed == 0 {
		t.Errorf("%d regions, %d instances before and %d now, changes %+v", len(after.Regions), before.Instances, after.Instances, res.Changes)
	}
	var kept labStatus
	for _, r := range before.Regions {
		if r.Name != "eu-west" {
			kept.Regions = append(kept.Regions, r)
		}
	}
	wantUntouched(t, kept, after)
	l.wantClosed(gone)
	if p, ok := l.process("host", "eu-west"); ok {
		t.Errorf("the host of the removed region still runs: %s", p)
	}
	if l.rt.containers() {
		if left := l.containerIDs(true, "eu-west"); len(left) > 0 {
			t.Errorf("containers of the removed region are there: %v", left)
		}
		for _, id := range l.containerIDs(true, "oc") {
			if name := docker(t, "inspect", "--format", "{{.Name}}", id); strings.Contains(name, "eu-west") {
				t.Errorf("a container of the removed region's appliances is there: %s", name)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(l.dir(), "data", "eu-west")); err == nil {
		t.Error("the data of the removed region are still there")
	}
	wantRefusal(t, l.flix("play", "--title", "harbor-lights", "--region", "eu-west"), 3, "eu-west")
	l.wantUndisturbed(players, titleTime)
	// What the gone region's appliances took from the stores that stay counts no more.
	if f := l.fill(); f.OriginEgressRatio != 1 {
		t.Errorf("origin egress ratio %g after a region was removed", f.OriginEgressRatio)
	}
}

func lastRegionIsNotEvacuated(l *lab) {
	t := l.t
	if _, r := l.move("failover", "us-west"); r.code != 0 {
		t.Fatalf("the first one fails: %s", r.story())
	}
	wantRefusal(t, l.flix("failover", "us-east", "--yes"), 5, "last healthy region")
	if p := l.play(quick("us-west")...); p.Region != "us-east" {
		t.Errorf("%s answers, us-east is the only one left", p.Region)
	}
	// A second up changes nothing about the evacuation.
	l.up("--regions", "2")
	if reg := l.region("us-west"); reg.State != "evacuated" || reg.Share != 0 {
		t.Errorf("after an up us-west is %s with share %g, want evacuated and 0", reg.State, reg.Share)
	}
	if _, r := l.move("failback", "us-west"); r.code != 0 {
		t.Fatalf("failback: %s", r.story())
	}
	if _, r := l.move("failover", "us-east", "--dry-run"); r.code != 0 {
		t.Errorf("the other way round is refused: %s", r.story())
	}
}
