package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestVerbs takes one lab through the verbs that look at it, stop it, and make
// it what it was.
func TestVerbs(t *testing.T) {
	for _, rt := range runtimes(t) {
		t.Run(rt.Name, func(t *testing.T) {
			l := up(t, rt, "--regions", "1")
			t.Run("exec", func(t *testing.T) { execInStore(l.on(t)) })
			t.Run("stop and start", func(t *testing.T) { stopAndStart(l.on(t)) })
			t.Run("diff", func(t *testing.T) { diffFindsKilled(l.on(t)) })
			t.Run("logs", func(t *testing.T) { logsInOrder(l.on(t)) })
			t.Run("follow", func(t *testing.T) { logsFollow(l.on(t)) })
			t.Run("snapshot", func(t *testing.T) { snapshotRestores(l.on(t)) })
		})
	}
}

type labDiff struct {
	Equal       bool `json:"equal"`
	Differences []struct {
		Kind string `json:"kind"`
		Of   string `json:"of"`
		Name string `json:"name"`
		Text string `json:"text"`
	} `json:"differences"`
}

// diff reads "flix lab diff", which ends with 32 when there is something.
func (l *lab) diff() labDiff {
	l.t.Helper()
	r := l.flix("lab", "diff", "-o", "json")
	if r.code != 0 && r.code != 32 {
		l.t.Fatalf("it failed: %s", r.story())
	}
	var d labDiff
	decode(l.t, r, &d)
	if d.Equal != (r.code == 0) || d.Equal != (len(d.Differences) == 0) {
		l.t.Errorf("%s says equal: %v, with %d differences", r, d.Equal, len(d.Differences))
	}
	return d
}

func execInStore(l *lab) {
	t := l.t
	if !l.rt.containers() {
		wantRefusal(t, l.flix("lab", "exec", "us-east/a/kv/1", "--", "true"), 5, "share one process", "--runtime containers")
		return
	}
	r := l.flix("lab", "exec", "us-east/a/kv/1", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
	if r.code != 7 || r.stdout != "out\n" || r.stderr != "err\n" {
		t.Errorf("exec: %s", r.story())
	}
	if r := l.must("lab", "exec", "us-east/a/gateway/1", "--", "flix", "version"); !strings.HasPrefix(r.stdout, "flix ") {
		t.Errorf("flix in a service's container: %s", r.story())
	}
	// Zone a has the transcoder, whose image has more in it.
	r = l.flix("lab", "exec", "us-east/b/gateway/2", "--", "ls")
	wantRefusal(t, r, 3, "nothing but flix")
	if r.stdout != "" {
		t.Errorf("the engine's words are in the output: %q", r.stdout)
	}
	wantRefusal(t, l.flix("lab", "exec", "us-east/a/kv/1", "--", "no-such-program"), 3, "there is no \"no-such-program\"")
}

// stopAndStart stops all of the lab and starts it again; then again by an up.
func stopAndStart(l *lab) {
	t := l.t
	ports := l.portsOf("")
	if d := l.diff(); !d.Equal {
		t.Errorf("a new lab differs: %+v", d.Differences)
	}
	var stopped struct {
		State     string   `json:"state"`
		Instances []string `json:"instances"`
	}
	decode(t, l.must("lab", "stop", "-o", "json"), &stopped)
	st := l.status()
	if stopped.State != "stopped" || len(stopped.Instances) != st.Instances || st.Regions[0].State != "stopped" {
		t.Errorf("%d of %d instances are %s, the region %s", len(stopped.Instances), st.Instances, stopped.State, st.Regions[0].State)
	}
	for _, i := range st.Regions[0].Instances {
		if i.State != "stopped" {
			t.Errorf("%s is %s", i.Name, i.State)
		}
	}
	if d := l.diff(); len(d.Differences) != st.Instances || d.Differences[0].Kind != "stopped" {
		t.Errorf("%d differences of a stopped lab, want %d: %+v", len(d.Differences), st.Instances, d.Differences)
	}
	for _, start := range []func(){func() { l.must("lab", "start") }, func() { l.up("--regions", "1") }} {
		l.must("lab", "stop") // the first time it is stopped already
		start()
		wantPlayed(t, l.play(quick("us-east")...), 6)
		if now := l.portsOf(""); !slices.Equal(now, ports) {
			t.Errorf("the ports are %v, were %v", now, ports)
		}
		if d := l.diff(); !d.Equal {
			t.Errorf("after its start: %+v", d.Differences)
		}
	}
	if f := l.fill(); f.OriginEgressRatio != 1 {
		t.Errorf("origin egress ratio %g after the starts: something was filled twice", f.OriginEgressRatio)
	}
}

func diffFindsKilled(l *lab) {
	const name = "us-east/a/license/1"
	l.must("lab", "kill", name)
	d := l.diff()
	if len(d.Differences) != 1 || d.Differences[0].Name != name || d.Differences[0].Kind != "stopped" {
		l.t.Errorf("%+v, want %s", d.Differences, name)
	}
	l.must("lab", "start", name)
	if d := l.diff(); !d.Equal {
		l.t.Errorf("after its start: %+v", d.Differences)
	}
}

type logRecord struct {
	Time     time.Time `json:"time"`
	Instance string    `json:"instance"`
	Msg      string    `json:"msg"`
}

func records(t *testing.T, text string) []logRecord {
	t.Helper()
	var out []logRecord
	for line := range strings.Lines(text) {
		var r logRecord
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out = append(out, r)
	}
	return out
}

// outOfOrder is by how much a line may be older than the one before it: whoever
// writes a line may be stopped between its time and the file.
const outOfOrder = 10 * time.Second

// logsInOrder reads what everything wrote: services, stores, the lab itself.
func logsInOrder(l *lab) {
	t := l.t
	all := records(t, l.must("lab", "logs", "-o", "json").stdout)
	from := map[string]int{}
	for k, r := range all {
		from[r.Instance]++
		if k > 0 && all[k-1].Time.Sub(r.Time) > outOfOrder {
			t.Errorf("%q of %s comes after %q of %s", r.Msg, r.Time, all[k-1].Msg, all[k-1].Time)
		}
	}
	want := []string{"lab", "host/us-east"}
	if l.rt.containers() {
		want = []string{"lab", "serve/us-east/agent", "us-east/a/sql/1", "us-east/a/kafka/1"}
	}
	for _, name := range want {
		if from[name] == 0 {
			t.Errorf("nothing of %s is in the logs, but of %v", name, from)
		}
	}
	for _, r := range records(t, l.must("lab", "logs", "lab", "--since", "1h", "-o", "json").stdout) {
		if r.Instance != "lab" {
			t.Errorf("%s is not the lab", r.Instance)
		}
	}
}

// logsFollow sees an instance end and come back.
func logsFollow(l *lab) {
	const down, up = "us-east/a/sql/1 is down", "us-east/a/sql/1 is up"
	before := l.must("lab", "logs", "--since", "1h").stdout
	// What was before is there too, so that it does not matter when it begins.
	c := l.start(nil, "lab", "logs", "-f", "--since", "1h")
	l.must("lab", "stop", "us-east/a/sql/1")
	l.must("lab", "start", "us-east/a/sql/1")
	await(l.t, 20*time.Second, "the instance's lines", func() error {
		for _, says := range []string{down, up} {
			if strings.Count(c.out.String(), says) <= strings.Count(before, says) {
				return fmt.Errorf("%q is not there again", says)
			}
		}
		return nil
	})
	if l.rt.containers() {
		await(l.t, 60*time.Second, "the lines of a container that was started again", func() error {
			s := c.out.String()
			if after := s[max(0, strings.LastIndex(s, up)):]; !strings.Contains(after, "ready for connections") {
				return errNotYet
			}
			return nil
		})
	}
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
		l.t.Fatal(err)
	}
	if r := c.wait(); r.code != 0 {
		l.t.Errorf("the reader has seen enough: %s", r.story())
	}
}

// snapshotRestores saves a lab with a title that was added, adds another, and
// goes back.
func snapshotRestores(l *lab) {
	t := l.t
	file := film(t)
	l.must("title", "add", file, "--name", "Before")
	r := l.must("lab", "snapshot", "save", "before", "-o", "json")
	wantFields(t, "snapshot", []byte(r.stdout), "name", "lab", "runtime", "created", "version", "regions", "parts", "bytes", "dir", "outage_ms")
	var saved struct {
		Parts    int     `json:"parts"`
		Bytes    int64   `json:"bytes"`
		OutageMS float64 `json:"outage_ms"`
	}
	decode(t, r, &saved)
	t.Logf("%d parts, %d MiB, %.1f s without the lab", saved.Parts, saved.Bytes>>20, saved.OutageMS/1000)
	wantPlayed(t, l.play(quick("us-east")...), 6)
	l.must("title", "add", file, "--name", "After")
	wantRefusal(t, l.flix("lab", "snapshot", "restore", "before"), 5, "there is a lab", "--force")
	r = l.must("lab", "snapshot", "restore", "before", "--force")
	t.Logf("restored in %s", r.took.Round(time.Millisecond))
	titles := map[string]bool{}
	for _, x := range read[titleList](l, "title", "ls").Titles {
		titles[x.ID] = x.Live
	}
	if !titles["before"] || titles["after"] {
		t.Errorf("titles %v: want before and not after", titles)
	}
	p := l.play("--title", "Before", "--region", "us-east", "--speed", "100x")
	if p.SecondsPlayed < 5.5 || !p.ChecksumOK {
		t.Errorf("%g s played, checksum_ok %v, errors %v", p.SecondsPlayed, p.ChecksumOK, p.Errors)
	}
	// The object store has what the appliances have, as it knew it: a title that
	// is added now goes the whole way.
	l.must("title", "add", file, "--name", "Later")
	if f := l.fill(); f.OriginEgressRatio != 1 {
		t.Errorf("origin egress ratio %g: something was filled twice", f.OriginEgressRatio)
	}
	if d := l.diff(); !d.Equal {
		t.Errorf("it differs: %+v", d.Differences)
	}
	half, err := filepath.Glob(filepath.Join(l.state, "flix", "snapshots", "*.new"))
	if err != nil || len(half) != 0 {
		t.Errorf("half a snapshot: %v (%v)", half, err)
	}
	l.must("lab", "snapshot", "rm", "before")
}
