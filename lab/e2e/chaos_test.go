package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// activeFault is what the documentation says of a fault.
type activeFault struct {
	ID     string    `json:"id"`
	Kind   string    `json:"kind"`
	Target string    `json:"target"`
	State  string    `json:"state"`
	Until  time.Time `json:"until"`
	How    string    `json:"how"`
	Blast  struct {
		Instances []string `json:"instances"`
		Text      []string `json:"text"`
	} `json:"blast_radius"`
}

// TestChaos breaks a lab in the ways there are, and looks whether each break
// is felt, ends by itself, and leaves nothing.
func TestChaos(t *testing.T) {
	for _, rt := range runtimes(t) {
		t.Run(rt.Name, func(t *testing.T) {
			l := up(t, rt, "--regions", "3")
			t.Run("a killed instance comes back by itself", func(t *testing.T) { chaosKill(l.on(t)) })
			t.Run("nothing is done where it says so", func(t *testing.T) { chaosRefusals(l.on(t)) })
			t.Run("scoped calls", func(t *testing.T) { chaosCalls(l.on(t)) })
			t.Run("the links of the edge", func(t *testing.T) { chaosEdge(l.on(t)) })
			t.Run("a paused instance", func(t *testing.T) { chaosPause(l.on(t)) })
			t.Run("a fault outlives the daemon and ends", func(t *testing.T) { chaosWithoutDaemon(l.on(t)) })
			t.Run("a region is lost without a warning", func(t *testing.T) { chaosRegion(l.on(t)) })
			t.Run("an experiment", func(t *testing.T) { chaosExperiment(l.on(t)) })
		})
	}
}

func (l *lab) stateOf(instance string) string {
	l.t.Helper()
	for _, r := range l.status().Regions {
		for _, i := range r.Instances {
			if i.Name == instance {
				return i.State
			}
		}
	}
	return ""
}

func (l *lab) awaitState(instance, state string) {
	l.t.Helper()
	await(l.t, 30*time.Second, instance+" to be "+state, func() error {
		if s := l.stateOf(instance); s != state {
			return fmt.Errorf("it is %s", s)
		}
		return nil
	})
}

func chaosKill(l *lab) {
	const victim = "us-east/a/play/1"
	before := l.plain()
	dry := read[activeFault](l, "chaos", "run", "kill", "--target", victim, "--dry-run")
	if dry.State != "planned" || !slices.Equal(dry.Blast.Instances, []string{victim}) || len(dry.Blast.Text) == 0 {
		l.t.Errorf("a dry run says %+v", dry)
	}
	l.wantSame(before)
	// One that lasts, to look at; how one ends by itself is seen of the next.
	f := read[activeFault](l, "chaos", "run", "kill", "--target", victim, "--ttl", "10m")
	if f.State != "active" || f.ID == "" || f.Until.IsZero() || time.Until(f.Until) > 10*time.Minute {
		l.t.Errorf("a kill says %+v", f)
	}
	if s := l.stateOf(victim); s == "running" {
		l.t.Error("it still runs")
	}
	if p := l.play(quick("us-east")...); !p.ChecksumOK {
		l.t.Error("its sibling does not do its work")
	}
	wantRefusal(l.t, l.flix("chaos", "run", "pause", "--target", victim), 5, f.ID)
	l.must("chaos", "stop", f.ID)
	l.awaitState(victim, "running")

	f = read[activeFault](l, "chaos", "run", "kill", "--target", victim, "--ttl", "3s")
	if f.State != "active" || time.Until(f.Until) > 3*time.Second {
		l.t.Errorf("a short kill says %+v", f)
	}
	l.awaitState(victim, "running")
	// Its host lifts it, and the daemon notes it then.
	await(l.t, 10*time.Second, "the history to have it", func() error {
		h := read[struct {
			Faults []activeFault `json:"faults"`
		}](l, "chaos", "history")
		if n := len(h.Faults); n == 0 || h.Faults[n-1].ID != f.ID || h.Faults[n-1].How != "lapsed" {
			return fmt.Errorf("it says %+v", h.Faults)
		}
		return nil
	})
}

// Between the balancers and the gateways, and between these and the services,
// nothing of a fault was felt: they dialled past the WAN.
func chaosEdge(l *lab) {
	f := read[activeFault](l, "chaos", "run", "partition", "--target", "elb@us-east", "--to", "gateway", "--ttl", "10m")
	if p := l.play(quick("us-east")...); p.Region == "us-east" {
		l.t.Error("balancers that reach no gateway pass plays on")
	}
	l.must("chaos", "stop", f.ID)
	f = read[activeFault](l, "chaos", "run", "latency", "--target", "gateway", "--to", "play", "--ttl", "10m", "delay=500ms")
	if p := l.play(quick("us-east")...); p.PlayDelayMS < 500 {
		l.t.Errorf("a play took %.0f ms to begin: the way to its service has no latency", p.PlayDelayMS)
	}
	l.must("chaos", "stop", f.ID)
}

func chaosRefusals(l *lab) {
	before := l.plain()
	for _, c := range []struct {
		code int
		says string
		args []string
	}{
		{3, "mars", []string{"run", "kill", "--target", "mars"}},
		{3, "sulk", []string{"run", "sulk", "--target", "us-east"}},
		{2, "colour", []string{"run", "latency", "--target", "us-east", "colour=red"}},
		{2, "--ttl", []string{"run", "kill", "--target", "us-east/a/play/1", "--ttl", "soon"}},
		{5, "3 − 3 = 0", []string{"run", "kill", "--target", "gateway", "--force"}},
		{3, "f-none", []string{"stop", "f-none"}},
		{2, "--all", []string{"stop"}},
		{2, "--down", []string{"region", "us-east"}},
		{3, "mars", []string{"region", "mars", "--down", "--yes"}},
		{5, "us-east", []string{"region", "us-east", "--up"}},
	} {
		wantRefusal(l.t, l.flix(append([]string{"chaos"}, c.args...)...), c.code, c.says)
	}
	l.wantSame(before)
}

func chaosCalls(l *lab) {
	read[activeFault](l, "chaos", "run", "fail-call", "--target", "license/Issue", "devices=tv", "--ttl", "10m")
	if p := l.play(append(quick("us-east"), "--device", "web")...); !p.ChecksumOK {
		l.t.Error("a viewer out of scope suffers")
	}
	if r := l.flix(append([]string{"play"}, append(quick("us-east"), "--device", "tv")...)...); r.code == 0 || !strings.Contains(r.stderr, "license") {
		l.t.Errorf("a viewer in scope does not: %s", r.story())
	}
	l.must("chaos", "stop", "--all")
	if p := l.play(append(quick("us-east"), "--device", "tv")...); !p.ChecksumOK {
		l.t.Error("after it viewers still suffer")
	}
}

func chaosPause(l *lab) {
	const victim = "us-east/a/recommend/1"
	r := l.flix("chaos", "run", "pause", "--target", victim, "--ttl", "3s", "-o", "json")
	if l.rt.containers() && strings.Contains(r.stderr, "the kernel does not let this process freeze") {
		if fs := l.faults(); len(fs) > 0 {
			l.t.Errorf("a pause that was refused is in force: %+v", fs)
		}
		l.t.Skip("this kernel lets no process without capabilities filter its sockets")
	}
	if r.code != 0 {
		l.t.Fatalf("it cannot be paused: %s", r.story())
	}
	if p := l.play(quick("us-east")...); !p.ChecksumOK {
		l.t.Error("a play needs the recommendations")
	}
	await(l.t, 20*time.Second, "the fault to lapse", func() error {
		if fs := l.faults(); len(fs) > 0 {
			return fmt.Errorf("active are %+v", fs)
		}
		return nil
	})
	if s := l.stateOf(victim); s != "running" {
		l.t.Errorf("it is %s", s)
	}
}

func (l *lab) faults() []activeFault {
	l.t.Helper()
	return read[struct {
		Active []activeFault `json:"active"`
	}](l, "chaos", "ls").Active
}

// chaosWithoutDaemon kills the daemon while faults are in force: one ends in its
// own time, where it acts; the other when a daemon is there again.
func chaosWithoutDaemon(l *lab) {
	const short, long = "us-west/a/play/1", "us-west/b/play/2"
	read[activeFault](l, "chaos", "run", "kill", "--target", short, "--ttl", "3s")
	read[activeFault](l, "chaos", "run", "kill", "--target", long, "--ttl", "10m")
	l.strike("daemon")
	// A status of a dead daemon's lab asks the hosts and starts none.
	l.awaitState(short, "running")
	if s := l.stateOf(long); s == "running" {
		l.t.Error("the other fault is over as well")
	}
	if st := l.status().Daemon.State; st != "dead" {
		l.t.Errorf("the daemon is %s", st)
	}
	r := l.must("chaos", "stop", "--all")
	if !strings.Contains(r.stdout, "dead") || !strings.Contains(r.stdout, "lifted") {
		l.t.Errorf("it does not say what it did: %s", r.story())
	}
	l.awaitState(long, "running")
}

type regionLoss struct {
	Region           string  `json:"region"`
	Recovered        bool    `json:"recovered"`
	RecoveredMS      float64 `json:"recovered_ms"`
	SessionsInFlight int     `json:"sessions_in_flight"`
	SessionsLost     int     `json:"sessions_lost"`
	PlaysTried       int     `json:"plays_tried"`
	PlaysFailed      int     `json:"plays_failed"`
}

func chaosRegion(l *lab) {
	r := l.must("chaos", "region", "us-east", "--down", "--yes", "-o", "json")
	var loss regionLoss
	decode(l.t, r, &loss)
	wantFields(l.t, "region loss", []byte(r.stdout), "region", "at", "recovered_ms", "sessions_in_flight", "sessions_lost", "plays_tried", "plays_failed")
	if !loss.Recovered || loss.SessionsInFlight == 0 || loss.SessionsLost != 0 || loss.PlaysTried == 0 || loss.PlaysFailed != 0 {
		l.t.Errorf("the loss of a region: %+v", loss)
	}
	if s := l.region("us-east").State; s != "down" {
		l.t.Errorf("us-east is %s", s)
	}
	if p := l.play(quick("us-east")...); p.Region == "us-east" {
		l.t.Error("a region that is lost answers")
	}
	wantRefusal(l.t, l.flix("chaos", "region", "us-west", "--down", "--yes"), 5, "would be left")
	l.must("chaos", "region", "us-east", "--up")
	await(l.t, 60*time.Second, "us-east to serve its viewers again", func() error {
		if p := l.play(quick("us-east")...); p.Region != "us-east" {
			return fmt.Errorf("%s answers them", p.Region)
		}
		return nil
	})
}

// chaosExperiment runs a short one, and one whose hypothesis is wrong.
func chaosExperiment(l *lab) {
	const text = `name: short
title: half of the viewers lose steering
claim: a test
seed: 5
traffic: {viewers: 2, seconds: 4, speed: 20}
groups: {by: client}
phases: {baseline: 2s, fault: 6s}
method: [{kind: fail-call, target: %s}]
abort: {error_ratio: 0}
steady_state: {error_ratio: {max: 0}}
`
	dir := l.t.TempDir()
	run := func(target string) result {
		file := filepath.Join(dir, "x.yaml")
		if err := os.WriteFile(file, fmt.Appendf(nil, text, target), 0o600); err != nil {
			l.t.Fatal(err)
		}
		return l.flix("chaos", "experiment", "run", file, "-o", "json", "--html", filepath.Join(dir, "x.html"))
	}
	var res struct {
		Verdict    string  `json:"verdict"`
		Confidence float64 `json:"confidence"`
		Groups     map[string]struct {
			Plays  int `json:"plays"`
			Failed int `json:"plays_failed"`
		} `json:"groups"`
	}
	r := run("steering")
	decode(l.t, r, &res)
	if r.code != 0 || res.Verdict != "holds" || !(res.Confidence > 0.5) {
		l.t.Errorf("viewers notice that steering fails: %s", r.story())
	}
	if b, err := os.ReadFile(filepath.Join(dir, "x.html")); err != nil || !strings.Contains(string(b), "half of the viewers lose steering") {
		l.t.Errorf("the page: %v", err)
	}
	r = run("license")
	decode(l.t, r, &res)
	if r.code != 40 || res.Verdict != "fails" || res.Groups["experiment"].Failed == 0 {
		l.t.Errorf("viewers of one group have no licence: %s", r.story())
	}
	if fs := l.faults(); len(fs) != 0 {
		l.t.Errorf("the experiments leave %+v", fs)
	}
}
