package lab

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// TestReopen wants a topology, then opens the lab again as the next daemon
// does: names, ports, key and certificates are the same.
func TestReopen(t *testing.T) {
	e := testEnv(t)
	first := testLab(t, e, "x")
	if _, err := first.need(); services.ReasonOf(err) != services.ReasonNoLab || !strings.Contains(services.ProblemOf(err).Remedy, "--name x") {
		t.Errorf("before the first up: %v", err)
	}
	if err := first.want(preset(t, 2), 0); err != nil {
		t.Fatal(err)
	}
	specs, err := first.specs(first.current())
	if err != nil {
		t.Fatal(err)
	}
	was, err := first.World(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := first.close(); err != nil {
		t.Fatal(err)
	}
	second := testLab(t, e, "x")
	now, err := second.World(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(was.CAPEM, now.CAPEM) || was.DNS["us-east"] != now.DNS["us-east"] || len(now.DNS) != 2 || second.current().ID != first.current().ID {
		t.Errorf("the world changed: DNS %v became %v", was.DNS, now.DNS)
	}
	again, err := second.specs(second.current())
	if err != nil {
		t.Fatal(err)
	}
	primaries := 0
	for k, s := range again {
		if s.ID != specs[k].ID || s.PortNumbers[topology.PortAdmin] != specs[k].PortNumbers[topology.PortAdmin] || s.Dir != specs[k].Dir {
			t.Errorf("spec %+v became %+v", specs[k], s)
		}
		if s.Primary {
			primaries++
		}
	}
	if primaries != 1 {
		t.Errorf("%d SQL primaries are declared, want 1", primaries)
	}
	dir := testPaths(t, e, "x").Dir
	for _, f := range []string{"key", "pki/key.pem", "intent.json", "journal.jsonl", "events.jsonl"} {
		if st, err := os.Stat(filepath.Join(dir, f)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v (error %v), want 0600", f, st, err)
		}
	}
}

// TestWantKeepsWhatStays converges to fewer regions: stops end, evacuations of
// regions that are gone are forgotten.
func TestWantKeepsWhatStays(t *testing.T) {
	l := testLab(t, testEnv(t), "x")
	if err := l.want(preset(t, 3), 0); err != nil {
		t.Fatal(err)
	}
	if err := l.changeIntent(func(i *intent) {
		i.Stopped = map[string]bool{"us-east/a/kv/1": true}
		i.Evacuated = map[string]string{"us-west": "ev-1", "eu-west": "ev-2"}
	}); err != nil {
		t.Fatal(err)
	}
	old := l.current()
	if err := l.want(preset(t, 2), 0); err != nil {
		t.Fatal(err)
	}
	i := l.current()
	if len(i.Stopped) != 0 || len(i.Evacuated) != 1 || i.Evacuated["us-west"] != "ev-1" || i.ID != old.ID {
		t.Errorf("intent %+v", i)
	}
	if len(old.Evacuated) != 2 || len(old.Topology.Regions) != 3 {
		t.Error("a reader of the old intent saw it change")
	}
}

// TestUpKeepsARegionThatServes refuses to take the last regions that serve away,
// also where an up is only planned.
func TestUpKeepsARegionThatServes(t *testing.T) {
	l := testLab(t, testEnv(t), "x")
	if err := l.want(preset(t, 3), 0); err != nil {
		t.Fatal(err)
	}
	if err := l.changeIntent(func(i *intent) { i.Evacuated = map[string]string{"us-east": "ev-1"} }); err != nil {
		t.Fatal(err)
	}
	_, planned := l.Plan(t.Context(), control.UpRequest{Topology: preset(t, 1)})
	_, upped := l.Up(t.Context(), control.UpRequest{Topology: preset(t, 1)}, nil)
	for _, err := range []error{planned, upped} {
		if services.KindOf(err) != services.Conflict || !strings.Contains(err.Error(), "us-east") || !strings.Contains(services.ProblemOf(err).Remedy, "flix failback us-east") {
			t.Errorf("error %v, want a conflict that names us-east and its failback", err)
		}
	}
	if n := len(l.current().Topology.Regions); n != 3 {
		t.Errorf("the refused up left %d regions wanted, want 3", n)
	}
	if err := l.servedBy(preset(t, 2)); err != nil {
		t.Errorf("us-west serves, and yet: %v", err)
	}
}

func TestOneVerbAtATime(t *testing.T) {
	l := testLab(t, testEnv(t), "x")
	end, err := l.begin(t.Context(), "failover us-east")
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.Up(t.Context(), control.UpRequest{Topology: preset(t, 1)}, nil)
	if services.KindOf(err) != services.Conflict || !strings.Contains(err.Error(), `busy with "failover us-east"`) || services.ProblemOf(err).Remedy == "" {
		t.Errorf("a second verb: %v", err)
	}
	end()
	if _, err := l.Up(t.Context(), control.UpRequest{}, nil); services.KindOf(err) != services.Invalid {
		t.Errorf("an empty topology: %v", err)
	}
}

func TestInstanceByName(t *testing.T) {
	l := testLab(t, testEnv(t), "x")
	if err := l.want(preset(t, 1), 0); err != nil {
		t.Fatal(err)
	}
	if s, err := l.instance("us-east/a/license/1"); err != nil || s.ID != "us-east/a/license/1" || s.PortNumbers[topology.PortRPC] == 0 {
		t.Errorf("spec %+v, error %v", s, err)
	}
	for name, remedy := range map[string]string{
		"license":             "did you mean us-east/a/license/1?",
		"us-east/b/license/1": "did you mean us-east/a/license/1?",
		"us-east/c/gateway/7": "did you mean us-east/a/gateway/1, us-east/b/gateway/2?",
		"nothing-like-it":     "list them: flix lab status -o wide",
	} {
		_, err := l.instance(name)
		if services.KindOf(err) != services.NotFound || services.ProblemOf(err).Remedy != remedy {
			t.Errorf("%q: %v, remedy %q, want %q", name, err, services.ProblemOf(err).Remedy, remedy)
		}
	}
}

func TestStatusOfRegions(t *testing.T) {
	i := &intent{Name: "x", Runtime: "embedded", Topology: preset(t, 1)}
	var specs []runtime.Spec
	for _, inst := range i.instances() {
		specs = append(specs, runtime.Spec{Instance: inst, Address: publicAddress, PortNumbers: map[string]int{topology.PortAdmin: 1234}})
	}
	live := func(skip func(runtime.Spec) bool) []runtime.Instance {
		var out []runtime.Instance
		for _, s := range specs {
			if !skip(s) {
				out = append(out, runtime.Instance{Spec: s, State: runtime.Running, PID: 7})
			}
		}
		return out
	}
	for _, c := range []struct {
		name      string
		skip      func(runtime.Spec) bool
		evacuated bool
		state     string
		share     float64
	}{
		{"all", func(runtime.Spec) bool { return false }, false, "ready", 1},
		{"one missing", func(s runtime.Spec) bool { return s.ID == "us-east/a/license/1" }, false, "degraded", 1},
		{"an appliance missing", func(s runtime.Spec) bool { return s.Role == topology.RoleOCA && s.Number == 1 }, false, "degraded", 1},
		{"only appliances", func(s runtime.Spec) bool { return s.Role != topology.RoleOCA }, false, "down", 1},
		{"evacuated", func(runtime.Spec) bool { return false }, true, "evacuated", 0},
		{"evacuated and lost", func(s runtime.Spec) bool { return s.Role != topology.RoleOCA }, true, "down", 0},
	} {
		i.Evacuated, i.Stopped = map[string]string{}, map[string]bool{"us-east/a/license/1": c.name == "one missing"}
		if c.evacuated {
			i.Evacuated["us-east"] = "ev-1"
		}
		st := statusOf(i, runtime.World{}, specs, live(c.skip))
		r := st.Regions[0]
		if r.State != c.state || r.Share != c.share || st.Instances != len(specs) {
			t.Errorf("%s: %s, share %g, %d instances", c.name, r.State, r.Share, st.Instances)
		}
		for _, x := range r.Instances {
			if x.Endpoints[topology.PortAdmin] != "127.0.0.1:1234" {
				t.Errorf("endpoints %v", x.Endpoints)
			}
			if x.Name == "us-east/a/license/1" && c.name == "one missing" && x.State != "stopped" {
				t.Errorf("what was stopped is %s", x.State)
			}
			if c.state == "down" && x.Role == "kv" && x.State != "gone" {
				t.Errorf("what is not there is %s", x.State)
			}
		}
	}
}

// TestTraceJoinsPlayers asks for a trace that only a player has.
func TestTraceJoinsPlayers(t *testing.T) {
	l := testLab(t, testEnv(t), "x")
	id := strings.Repeat("ab", 16)
	if _, err := l.Trace(t.Context(), "AB"); services.KindOf(err) != services.Invalid {
		t.Errorf("an id that is none: %v", err)
	}
	if err := l.want(preset(t, 1), 0); err != nil {
		t.Fatal(err)
	}
	l.remote = newRemotes()
	defer l.remote.close()
	if _, err := l.Trace(t.Context(), id); services.KindOf(err) != services.NotFound {
		t.Errorf("a trace nobody has: %v", err)
	}
	var spans []control.Span
	for k := range 3 {
		spans = append(spans, control.Span{TraceID: id, SpanID: strconv.Itoa(k), StartUnixNano: int64(30 - 10*k)})
	}
	spans = append(spans, control.Span{TraceID: strings.Repeat("0", 32)})
	if err := l.Record(t.Context(), control.Event{Kind: "play.done", Text: "x"}, spans); err != nil {
		t.Fatal(err)
	}
	tr, err := l.Trace(t.Context(), id)
	if err != nil || len(tr.Spans) != 3 || tr.Spans[0].SpanID != "2" || tr.Spans[2].SpanID != "0" {
		t.Errorf("trace %+v, error %v", tr, err)
	}
	if es, _ := l.log.Since(0); len(es) != 1 || es[0].Kind != "play.done" {
		t.Errorf("events %+v", es)
	}
	for range 3 {
		if err := l.Record(t.Context(), control.Event{}, make([]control.Span, keepSpans)); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.spans) > keepSpans {
		t.Errorf("%d spans are kept, want at most %d", len(l.spans), keepSpans)
	}
}

// TestOfflineStatus reads a lab whose daemon is dead and that never ran.
func TestOfflineStatus(t *testing.T) {
	e := testEnv(t)
	l := testLab(t, e, "x")
	if _, err := OfflineStatus(t.Context(), e, l.paths); services.ReasonOf(err) != services.ReasonNoLab {
		t.Errorf("before its first up: %v", err)
	}
	if err := l.want(preset(t, 1), 0); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(journal.Path(l.paths.Dir))
	if err != nil {
		t.Fatal(err)
	}
	st, err := OfflineStatus(t.Context(), e, l.paths)
	if err != nil || st.Daemon.State != "dead" || st.Regions[0].State != "down" || st.Instances != len(preset(t, 1).Instances()) {
		t.Errorf("status %+v, error %v", st, err)
	}
	if after, err := os.ReadFile(journal.Path(l.paths.Dir)); err != nil || !bytes.Equal(before, after) {
		t.Errorf("looking changed the journal (error %v)", err)
	}
}

// Where no engine answers, looking at a lab of containers says so.
func TestLookWithoutEngine(t *testing.T) {
	e := testEnv(t)
	e.Getenv = func(key string) string {
		if key == "DOCKER_HOST" {
			return "unix:///nonexistent/engine.sock"
		}
		return ""
	}
	l := testLab(t, e, "x")
	if err := errors.Join(l.want(preset(t, 1), 0), l.changeIntent(func(i *intent) { i.Runtime = ContainersRuntime })); err != nil {
		t.Fatal(err)
	}
	_, status := OfflineStatus(t.Context(), e, l.paths)
	_, diff := Diff(t.Context(), e, l.paths)
	_, plan := PreviewUp(t.Context(), e, l.paths, ContainersRuntime, preset(t, 1))
	for what, err := range map[string]error{"status": status, "diff": diff, "plan": plan} {
		if services.KindOf(err) != services.Unavailable || !strings.Contains(services.ProblemOf(err).Remedy, "docker") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestDownOfDeadLab takes down what only disk and journal still know.
func TestDownOfDeadLab(t *testing.T) {
	e := testEnv(t)
	if _, err := Down(t.Context(), e, "x", false); services.ReasonOf(err) != services.ReasonNoLab {
		t.Errorf("of no lab: %v", err)
	}
	if _, _, err := Connect(t.Context(), e, "x"); services.ReasonOf(err) != services.ReasonNoLab {
		t.Errorf("connecting to no lab: %v", err)
	}
	l := testLab(t, e, "x")
	if err := errors.Join(l.want(preset(t, 1), 0), l.close()); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, filepath.Join(l.paths.Data(), "us-east", "file"), "data")
	kept, err := Down(t.Context(), e, "x", true)
	if err != nil || kept.Kept != l.paths.Data() {
		t.Errorf("keeping data: %+v, error %v", kept, err)
	}
	if _, err := os.Stat(filepath.Join(l.paths.Data(), "us-east", "file")); err != nil {
		t.Errorf("the data: %v", err)
	}
	if _, err := os.Stat(l.paths.Sockets); !os.IsNotExist(err) {
		t.Errorf("the sockets are left: %v", err)
	}
	res, err := Down(t.Context(), e, "x", false)
	if err != nil || res.Name != "x" || res.Processes != 0 || l.paths.Exists() {
		t.Errorf("down: %+v, error %v, exists %v", res, err, l.paths.Exists())
	}
}

// TestDaemonThatDoesNotStart is told with its cause.
func TestDaemonThatDoesNotStart(t *testing.T) {
	e := testEnv(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	p := testPaths(t, e, "x")
	if _, err := EnsureDaemon(ctx, e, p); err == nil {
		t.Error("a daemon came of an executable that is not there")
	}
	// One that answers is used.
	ln, err := net.Listen("unix", p.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if _, err := EnsureDaemon(t.Context(), e, p); err != nil {
		t.Errorf("beside a daemon that answers: %v", err)
	}
}

func TestDoctorMendsDeadLabs(t *testing.T) {
	e := testEnv(t)
	find := func(d Diagnosis, text string) (Finding, bool) {
		k := slices.IndexFunc(d.Findings, func(f Finding) bool { return f.Check == "leftovers" && strings.Contains(f.Text, text) })
		if k < 0 {
			return Finding{}, false
		}
		return d.Findings[k], true
	}
	doctor := func(fix bool) Diagnosis {
		t.Helper()
		d, err := Doctor(t.Context(), e, fix)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if _, ok := find(doctor(false), "nothing of a dead lab is left"); !ok {
		t.Error("a clean machine is not called so")
	}
	// Stopped with its data kept: no leftover.
	l := testLab(t, e, "kept")
	if err := errors.Join(l.want(preset(t, 1), 0), l.close()); err != nil {
		t.Fatal(err)
	}
	// A journal that names a process, and one that is damaged.
	dead := testPaths(t, e, "dead")
	if err := testJournal(t, dead.Dir).Put(journal.Process, "us-east", map[string]any{"pid": 1 << 22, "start_ticks": 1}); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, journal.Path(testPaths(t, e, "damaged").Dir), "{nonsense\n{}\n")
	d := doctor(false)
	if d.Problems < 2 {
		t.Errorf("%d problems", d.Problems)
	}
	if _, ok := find(d, "lab kept"); ok {
		t.Error("kept data are called a leftover")
	}
	for _, name := range []string{"dead", "damaged"} {
		if f, ok := find(d, "the daemon of lab "+name+" is dead"); !ok || f.Level != "problem" || f.Fixed || !strings.Contains(f.Remedy, "--fix") {
			t.Errorf("%s: %+v", name, f)
		}
		if !testPaths(t, e, name).Exists() {
			t.Errorf("looking removed %s", name)
		}
	}
	d = doctor(true)
	for _, name := range []string{"dead", "damaged"} {
		if f, ok := find(d, "lab "+name); !ok || !f.Fixed || testPaths(t, e, name).Exists() {
			t.Errorf("%s after --fix: %+v", name, f)
		}
	}
	if !testPaths(t, e, "kept").Exists() {
		t.Error("--fix removed kept data")
	}
}
