package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

var threeRegions = []string{"us-east", "us-west", "eu-west"}

func upMakesThreeRegions(l *lab) {
	t := l.t
	r := l.must(append([]string{"lab", "up", "--regions", "3", "-o", "json"}, l.rt.flags()...)...)
	wantFields(t, "up", []byte(r.stdout), "name", "runtime", "regions", "instances", "changes", "steps", "ready_ms", "whole_ms", "rss_bytes")
	var res upResult
	decode(t, r, &res)
	if res.Name != l.name || res.Runtime != l.rt.Name {
		t.Errorf("name %q, runtime %q; want %q, %q", res.Name, res.Runtime, l.name, l.rt.Name)
	}
	var names []string
	for _, x := range res.Regions {
		names = append(names, x.Name)
		if x.State != "ready" {
			t.Errorf("region %s is %q, want ready", x.Name, x.State)
		}
	}
	if !slices.Equal(names, threeRegions) {
		t.Errorf("regions %v, want %v", names, threeRegions)
	}
	if res.Changes.Added != res.Instances || res.Changes.Removed != 0 || res.Instances < 90 {
		t.Errorf("added %d, removed %d, %d instances; want all of at least 90 added", res.Changes.Added, res.Changes.Removed, res.Instances)
	}
	wantSteps(t, res.Steps)
	if sum := total(res.Steps); res.ReadyMS <= 0 || res.ReadyMS > sum*1.05+50 {
		t.Errorf("ready_ms %.1f does not fit the steps' %.1f ms", res.ReadyMS, sum)
	}
	if wall := float64(r.took.Milliseconds()); res.ReadyMS > res.WholeMS || res.WholeMS > wall {
		t.Errorf("ready_ms %.1f and whole_ms %.1f, and the command took %.0f ms", res.ReadyMS, res.WholeMS, wall)
	}
	t.Logf("ready after %.0f ms, %d MB; steps %v", res.ReadyMS, res.RSSBytes>>20, res.Steps)
}

func total(steps []step) (sum float64) {
	for _, s := range steps {
		sum += s.MS
	}
	return sum
}

func wantSteps(t testing.TB, steps []step) {
	t.Helper()
	seen := map[string]bool{}
	for _, s := range steps {
		if s.Name == "" || s.MS < 0 || seen[s.Name] {
			t.Errorf("step %+v: want a name of its own and a time", s)
		}
		seen[s.Name] = true
	}
	if len(steps) == 0 {
		t.Error("no steps")
	}
}

func secondUpChangesNothing(l *lab) {
	before := l.status()
	res := l.up("--regions", "3")
	if res.Changes.Added != 0 || res.Changes.Removed != 0 {
		l.t.Errorf("a second up added %d and removed %d", res.Changes.Added, res.Changes.Removed)
	}
	wantUntouched(l.t, before, l.status())
	text := l.must(append([]string{"lab", "up", "--regions", "3"}, l.rt.flags()...)...)
	if !strings.Contains(text.stdout, "nothing changed") {
		l.t.Errorf("a second up does not say that nothing changed: %q", text.stdout)
	}
}

// wantUntouched fails if an instance of before is not in after as it was:
// running, with the same start and in the same process.
func wantUntouched(t testing.TB, before, after labStatus) {
	t.Helper()
	now := instances(after)
	for name, was := range instances(before) {
		is, ok := now[name]
		switch {
		case !ok:
			t.Errorf("%s is gone", name)
		case !is.Started.Equal(was.Started) || is.PID != was.PID || is.Container != was.Container:
			t.Errorf("%s was restarted: started %s by pid %d, now %s by pid %d", name, was.Started, was.PID, is.Started, is.PID)
		case is.State != was.State:
			t.Errorf("%s was %s, now %s", name, was.State, is.State)
		}
	}
}

func instances(s labStatus) map[string]instanceStatus {
	out := map[string]instanceStatus{}
	for _, r := range s.Regions {
		for _, i := range r.Instances {
			out[i.Name] = i
		}
	}
	return out
}

func statusNamesEverything(l *lab) {
	t := l.t
	r := l.must("lab", "status", "-o", "json")
	wantFields(t, "status", []byte(r.stdout), "name", "runtime", "daemon", "regions")
	for _, raw := range elements(t, []byte(r.stdout), "regions") {
		wantFields(t, "status region", raw, "name", "state", "share", "instances")
		for _, i := range elements(t, raw, "instances") {
			wantFields(t, "status instance", i, "name", "role", "zone", "state", "started", "endpoints")
		}
	}
	var st labStatus
	decode(t, r, &st)
	if st.Daemon.State != "running" || st.Daemon.PID == 0 {
		t.Errorf("daemon %+v, want running with a pid", st.Daemon)
	}
	for _, region := range st.Regions {
		if region.State != "ready" || region.Share != 1 {
			t.Errorf("region %s is %s with share %g, want ready and 1", region.Name, region.State, region.Share)
		}
		wantRegion(t, region)
	}
	var y map[string]any
	if yml := l.must("lab", "status", "-o", "yaml"); json.Unmarshal([]byte(yml.stdout), &y) == nil || !strings.Contains(yml.stdout, "regions:") {
		t.Errorf("-o yaml is not YAML: %s", tail(yml.stdout, 5))
	}
	if table := l.must("lab", "status").stdout; !strings.Contains(table, "us-east") || !strings.Contains(table, "ready") {
		t.Errorf("the table does not show the regions: %s", table)
	}
}

// wantRegion checks the instances of one preset region.
func wantRegion(t testing.TB, r regionStatus) {
	t.Helper()
	roles := map[string]int{}
	for _, i := range r.Instances {
		roles[i.Role]++
		part := strings.Split(i.Name, "/")
		if len(part) != 4 || part[0] != r.Name || part[1] != i.Zone || part[2] != i.Role {
			t.Errorf("instance %q does not read region/zone/role/number (zone %q, role %q)", i.Name, i.Zone, i.Role)
		}
		if i.State != "running" || i.Started.IsZero() || time.Since(i.Started) < 0 || (i.PID == 0 && i.Container == "") || len(i.Endpoints) == 0 {
			t.Errorf("instance %s: state %q, started %s, pid %d, endpoints %v", i.Name, i.State, i.Started, i.PID, i.Endpoints)
		}
	}
	want := map[string]int{
		"dns": 1, "elb": 2, "registry": 1, "gateway": 2, "signup": 2, "discovery": 2, "play": 2, "playback": 1,
		"license": 1, "steering": 1, "cachecontrol": 1, "recommend": 1, "keystone": 1, "transcode": 1, "evcache": 2,
		"kafka": 1, "kv": 1, "sql": 1, "search": 1, "s3": 1, "oca": 6,
	}
	for role, n := range want {
		if roles[role] != n {
			t.Errorf("%s has %d %s, want %d", r.Name, roles[role], role, n)
		}
	}
}

// memoryIsSumOfPSS compares what flix says with what the kernel says.
func memoryIsSumOfPSS(l *lab) {
	await(l.t, 20*time.Second, "reported memory within 10 % of Σ PSS", func() error {
		st := l.status()
		ps := l.everyProcess()
		var want int64
		pids := map[int]bool{}
		for _, p := range ps {
			n, err := pss(p.pid)
			if err != nil && ended(p.pid) {
				continue
			}
			if err != nil {
				return err
			}
			want += n
			pids[p.pid] = true
		}
		for name, i := range instances(st) {
			if i.PID != 0 && !pids[i.PID] {
				return fmt.Errorf("pid %d of %s is no process of the lab", i.PID, name)
			}
		}
		if len(ps) == 0 || !pids[st.Daemon.PID] {
			return fmt.Errorf("the daemon's pid %d is not among %v", st.Daemon.PID, ps)
		}
		if off := math.Abs(float64(st.RSSBytes-want)) / float64(want); off > 0.1 {
			return fmt.Errorf("reported %d, Σ PSS of %d processes %d: %.0f %% off", st.RSSBytes, len(ps), want, off*100)
		}
		return nil
	})
}

func everyPortAnswers(l *lab) {
	t := l.t
	seen := map[string]string{}
	for _, p := range read[portList](l, "lab", "ports").Ports {
		if other := seen[p.Address]; other != "" {
			t.Errorf("%s is the port of %s and of %s", p.Address, other, p.Instance)
		}
		seen[p.Address] = p.Instance
		host, _, err := net.SplitHostPort(p.Address)
		// Containers have addresses of their own; what clients dial is published.
		inside := l.rt.containers() && p.Port != "client"
		if err != nil || !inside && !net.ParseIP(host).IsLoopback() {
			t.Errorf("%s %s is at %q, which is not on loopback", p.Instance, p.Port, p.Address)
			continue
		}
		c, err := net.DialTimeout("tcp", p.Address, answerTime)
		if err != nil {
			t.Errorf("%s %s does not answer: %v", p.Instance, p.Port, err)
			continue
		}
		_ = c.Close()
	}
	if l.rt.containers() {
		l.wantPublished()
	}
	if len(seen) < 200 {
		t.Errorf("%d ports are listed, want more than two for each of 96 instances", len(seen))
	}
}

func lsShowsTheLab(l *lab) {
	list := read[struct {
		Labs []struct {
			Name      string   `json:"name"`
			Runtime   string   `json:"runtime"`
			Daemon    string   `json:"daemon"`
			Regions   []string `json:"regions"`
			Instances int      `json:"instances"`
		} `json:"labs"`
	}](l, "lab", "ls")
	if len(list.Labs) != 1 {
		l.t.Fatalf("ls shows %d labs, want this one", len(list.Labs))
	}
	got := list.Labs[0]
	if got.Name != l.name || got.Runtime != l.rt.Name || got.Daemon != "running" || !slices.Equal(got.Regions, threeRegions) || got.Instances < 90 {
		l.t.Errorf("ls shows %+v", got)
	}
}

// TestRefusedUps runs what an up must refuse, each with its exit code and
// without leaving anything.
func TestRefusedUps(t *testing.T) {
	if testing.Short() {
		t.Skip("end-to-end scenarios are left out by -short")
	}
	w := newWorld(t)
	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"too many regions", []string{"lab", "up", "--regions", "7"}, 2, "1 to 6"},
		{"no such runtime", []string{"lab", "up", "--runtime", "cloud"}, 2, "embedded or containers"},
		{"no such file", []string{"lab", "up", "--topology", "/nonexistent/planet.yaml"}, 3, "planet.yaml"},
		{"no such output", []string{"lab", "up", "-o", "xml"}, 2, "xml"},
		{"two sources", []string{"lab", "up", "--regions", "2", "--topology", "x.yaml"}, 2, "topology"},
		{"no lab to take down", []string{"lab", "down"}, 20, "there is no lab"},
		{"no lab to look at", []string{"lab", "status"}, 20, "there is no lab"},
		{"no lab to play in", []string{"play", "--title", "x"}, 20, "there is no lab"},
		{"no lab to evacuate", []string{"failover", "us-east"}, 20, "there is no lab"},
		{"an unknown verb", []string{"launch"}, 2, "launch"},
		{"no lab to break", []string{"chaos", "stop", "--all"}, 20, "there is no lab"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := *w
			w.t = t
			wantRefusal(t, w.flix(c.args...), c.code, c.says)
			w.wantNothingLeft()
		})
	}
	t.Run("dry run", func(t *testing.T) {
		w := *w
		w.t = t
		r := w.must("lab", "up", "--dry-run", "--regions", "2", "-o", "json")
		wantFields(t, "dry run", []byte(r.stdout), "name", "runtime", "regions", "add", "remove", "budget")
		if n := len(elements(t, []byte(r.stdout), "add")); n < 60 {
			t.Errorf("the plan adds %d instances, want those of two regions", n)
		}
		w.wantNothingLeft()
	})
}

// wantRefusal fails unless the command ended with the code and said so on
// stderr.
func wantRefusal(t testing.TB, r result, code int, says ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d: %s", r.code, code, r.story())
	}
	for _, s := range says {
		if !strings.Contains(r.stderr, s) {
			t.Errorf("%s: stderr does not say %q:\n%s", r, s, r.stderr)
		}
	}
}

var errNotYet = errors.New("not yet")
