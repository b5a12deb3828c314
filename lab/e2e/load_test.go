package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// loadReport is the JSON of "flix load".
type loadReport struct {
	Players         int     `json:"players"`
	Plays           int     `json:"plays"`
	PlaysFailed     int     `json:"plays_failed"`
	RebufferRatio   float64 `json:"rebuffer_ratio"`
	StalledPlays    int     `json:"stalled_plays"`
	MeanKbps        float64 `json:"mean_kbps"`
	StartsPerSecond float64 `json:"starts_per_second"`
	PlayDelay       struct {
		P50 float64 `json:"p50"`
		P99 float64 `json:"p99"`
	} `json:"play_delay_ms"`
	Bytes uint64 `json:"bytes"`
	Mode  string `json:"mode"`
}

// loadFields are all there are.
var loadFields = []string{"players", "plays", "plays_failed", "rebuffer_ratio", "stalled_plays", "mean_kbps", "starts_per_second", "play_delay_ms", "bytes", "mode"}

// Exit codes of a load: its verdict does not hold, and Ctrl-C.
const (
	exitVerdict     = 34
	exitInterrupted = 130
)

// TestLoad loads a lab in every mode, scales it up and down, evacuates a region
// and breaks the licences, all under players.
func TestLoad(t *testing.T) {
	for _, rt := range runtimes(t) {
		t.Run(rt.Name, func(t *testing.T) {
			l := up(t, rt, "--regions", "2")
			for _, s := range []struct {
				name string
				do   func(*lab)
			}{
				{"EveryMode", loadEveryMode}, {"ScalesUnderLoad", loadScales}, {"FailoverLeavesAReport", loadFailover}, {"BrokenLicencesFail", loadBroken},
			} {
				t.Run(s.name, func(t *testing.T) { s.do(l.on(t)) })
			}
		})
	}
}

func (l *lab) load(args ...string) (loadReport, result) {
	l.t.Helper()
	r := l.flix(append([]string{"load", "-o", "json", "--max-rebuffer", "1"}, args...)...)
	var rep loadReport
	if r.stdout != "" {
		decode(l.t, r, &rep)
	}
	return rep, r
}

func loadEveryMode(l *lab) {
	for _, mode := range []string{"full", "light", "head"} {
		rep, r := l.load("--players", "10", "--ramp", "1s", "--speed", "20x", "--seed", "1", "--mode", mode, "--seeks", "0.5")
		if r.code != 0 {
			l.t.Fatalf("the verdict does not hold: %s", r.story())
		}
		if rep.Mode != mode || rep.Players != 10 || rep.Plays != 10 || rep.PlaysFailed != 0 || rep.PlayDelay.P50 <= 0 || rep.PlayDelay.P99 < rep.PlayDelay.P50 {
			l.t.Errorf("%s: %+v", mode, rep)
		}
		if media := rep.Bytes > 0 && rep.MeanKbps > 0; media == (mode == "head") {
			l.t.Errorf("%s received %d bytes of %g kbit/s", mode, rep.Bytes, rep.MeanKbps)
		}
		var fields map[string]json.RawMessage
		decode(l.t, r, &fields)
		for f := range fields {
			if !slices.Contains(loadFields, f) {
				l.t.Errorf("an undocumented field %q", f)
			}
		}
		wantFields(l.t, "load", []byte(r.stdout), loadFields...)
	}
}

// instances counts a role's in a region.
func (l *lab) instances(region, role string) int {
	l.t.Helper()
	n := 0
	for _, i := range l.region(region).Instances {
		if i.Role == role && i.State == "running" {
			n++
		}
	}
	return n
}

// loadScales grows the play API and the gateways, and shrinks them again.
func loadScales(l *lab) {
	load := l.loading("--players", "8", "--speed", "10x", "--seed", "2")
	roles := []string{"play", "gateway", "license"}
	set := func(flags ...string) {
		for _, role := range roles {
			l.must(append([]string{"scale", "set", role, "--region", "us-east", "--metric", "rate", "--warm-up", "1s", "--up-cooldown", "1s", "--down-cooldown", "2s"}, flags...)...)
		}
	}
	set("--target", "0.05", "--max", "4")
	for _, role := range roles {
		await(l.t, l.rt.patience(25*time.Second), role+" to grow", func() error {
			if n := l.instances("us-east", role); n < 4 {
				return fmt.Errorf("%d instances", n)
			}
			return nil
		})
	}
	set("--target", "100000")
	for _, role := range roles {
		await(l.t, l.rt.patience(60*time.Second), role+" to shrink", func() error {
			if n := l.instances("us-east", role); n > 2 {
				return fmt.Errorf("%d instances", n)
			}
			return nil
		})
	}
	l.wantUnfelt(load, 8)
	for _, role := range roles {
		l.must("scale", "rm", role)
	}
	wantRefusal(l.t, l.flix("scale", "set", "kv", "--target", "1"), 2, "kv")
	wantRefusal(l.t, l.flix("scale", "set", "play", "--min", "1"), 2, "declares")
}

// recordReport is what is read of "flix report -o json".
type recordReport struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"`
	State   string `json:"state"`
	Figures []struct {
		Name  string  `json:"name"`
		Value float64 `json:"value"`
	} `json:"figures"`
	Phases  []struct{ Name string } `json:"phases"`
	Series  []struct{ Name string } `json:"series"`
	Changes []struct{ Name string } `json:"changes"`
}

func (r recordReport) figure(t testing.TB, name string) float64 {
	t.Helper()
	for _, f := range r.Figures {
		if f.Name == name {
			return f.Value
		}
	}
	t.Errorf("the report has no figure %q: %+v", name, r.Figures)
	return 0
}

// loading starts a load that goes on until the test has seen enough.
func (l *lab) loading(args ...string) *command {
	l.t.Helper()
	w := *l.world
	w.limit = 30 * time.Minute
	return w.start(nil, append([]string{"load", "-o", "json", "--max-rebuffer", "1", "--duration", w.limit.String()}, args...)...)
}

// wantUnfelt has the viewers of a load walk away, and fails if one of so many
// plays at least felt anything.
func (l *lab) wantUnfelt(load *command, plays int) {
	l.t.Helper()
	select {
	case <-load.done:
		l.t.Errorf("the load ended before what went on did: %s", load.result.story())
		return
	default:
	}
	if err := load.cmd.Process.Signal(os.Interrupt); err != nil {
		l.t.Fatal(err)
	}
	r := load.wait()
	var rep loadReport
	decode(l.t, r, &rep)
	if r.code != exitInterrupted || rep.PlaysFailed != 0 || rep.Plays < plays {
		l.t.Errorf("what went on was felt: %s", r.story())
	}
}

func loadFailover(l *lab) {
	load := l.loading("--players", "8", "--seed", "3")
	await(l.t, l.rt.patience(20*time.Second), "players to play", func() error {
		if !strings.Contains(load.err.String(), "active 8") {
			return fmt.Errorf("stderr: %s", tail(load.err.String(), 3))
		}
		return nil
	})
	m, r := l.move("failover", "us-east")
	if r.code != 0 || m.PlaysFailed != 0 {
		l.t.Fatalf("failover: %s", r.story())
	}
	rep := read[recordReport](l, "report", m.ID)
	if rep.Kind != "failover" || rep.State != "done" || len(rep.Phases) < 8 || len(rep.Series) < 5 {
		l.t.Errorf("report %+v", rep)
	}
	if n := rep.figure(l.t, "plays in flight"); n == 0 {
		l.t.Error("nobody was playing")
	}
	if n := rep.figure(l.t, "writes acknowledged"); n == 0 {
		l.t.Error("nothing was written meanwhile")
	}
	if rep.figure(l.t, "new plays tried") == 0 {
		l.t.Error("no new play was tried")
	}
	for _, name := range []string{"lost writes", "new plays failed", "requests in the region after", "stale reads at the end"} {
		if v := rep.figure(l.t, name); v != 0 {
			l.t.Errorf("%s: %g", name, v)
		}
	}
	for _, name := range []string{"rebuffer ratio before", "rebuffer ratio during", "rebuffer ratio after", "staleness p99"} {
		rep.figure(l.t, name)
	}
	if rep.figure(l.t, "RTO") != m.RTOMS {
		l.t.Errorf("RTO %g in the report, %g in the answer", rep.figure(l.t, "RTO"), m.RTOMS)
	}
	back, r := l.move("failback", "us-east")
	if r.code != 0 {
		l.t.Fatalf("failback: %s", r.story())
	}
	if c := read[recordReport](l, "report", back.ID, "--compare", m.ID); len(c.Changes) == 0 {
		l.t.Error("nothing is compared")
	}
	if page := l.must("report", m.ID, "-o", "html").stdout; !strings.Contains(page, "<svg") || strings.Contains(page, "http-equiv") || strings.Contains(page, "src=") {
		l.t.Error("the page has no picture, or needs more than itself")
	}
	l.wantUnfelt(load, 1)
}

// loadBroken stops every licence service: plays fail, and the load says so.
func loadBroken(l *lab) {
	for _, region := range []string{"us-east", "us-west"} {
		l.must("lab", "stop", region+"/a/license/1")
	}
	rep, r := l.load("--players", "4", "--speed", "20x", "--seed", "4")
	if r.code != exitVerdict || rep.PlaysFailed == 0 {
		l.t.Errorf("without licences: %+v, %s", rep, r.story())
	}
	if !strings.Contains(r.stderr, "the verdict does not hold") {
		l.t.Errorf("it does not say why: %s", r.stderr)
	}
}
