package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv"
)

// checkReport is the documented JSON of "flix lab check".
type checkReport struct {
	ID      string      `json:"id"`
	Region  string      `json:"region"`
	Log     string      `json:"log"`
	Verdict string      `json:"verdict"`
	Kinds   []checkKind `json:"kinds"`
	Regions []struct {
		Region  string         `json:"region"`
		Up      bool           `json:"up"`
		Missing map[string]int `json:"missing"`
	} `json:"regions"`
	Staleness []struct {
		Region  string  `json:"region"`
		Kind    string  `json:"kind"`
		Samples int     `json:"samples"`
		Unseen  int     `json:"unseen"`
		P50MS   float64 `json:"p50_ms"`
		P99MS   float64 `json:"p99_ms"`
		MaxMS   float64 `json:"max_ms"`
	} `json:"staleness"`
}

type checkKind struct {
	Kind            string  `json:"kind"`
	Attempted       int     `json:"attempted"`
	Acknowledged    int     `json:"acknowledged"`
	Refused         int     `json:"refused"`
	Lost            int     `json:"lost"`
	LostNewestAgeMS float64 `json:"lost_newest_age_ms"`
	LostOldestAgeMS float64 `json:"lost_oldest_age_ms"`
}

// checking is a check that runs beside the test.
type checking struct {
	l   *lab
	cmd *command
	log string
}

// check starts a check of a region and returns when so many writes are in its log.
func (l *lab) check(region string, seconds, writes int) *checking {
	l.t.Helper()
	c := &checking{l: l, log: filepath.Join(l.t.TempDir(), "acknowledged.jsonl")}
	c.cmd = l.start(nil, "lab", "check", "--region", region, "--seconds", fmt.Sprint(seconds), "--wait", l.rt.patience(10*time.Second).String(), "--log", c.log, "-o", "json")
	await(l.t, l.rt.patience(15*time.Second), "writes to be acknowledged", func() error {
		b, err := os.ReadFile(c.log)
		if err != nil {
			return err
		}
		if n := strings.Count(string(b), "\n"); n < writes {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	return c
}

// report waits for the check and fails unless its exit code is as expected and
// nothing that must be kept is lost.
func (c *checking) report(t *testing.T) checkReport {
	t.Helper()
	r := c.cmd.wait()
	var rep checkReport
	if r.stdout == "" {
		t.Fatalf("the check has no report: %s", r.story())
	}
	decode(t, r, &rep)
	t.Logf("%s", rep.Verdict)
	for _, k := range rep.Kinds {
		t.Logf("%+v", k)
	}
	if r.code != 0 {
		t.Errorf("the check ends with %d: %s", r.code, r.story())
	}
	b, err := os.ReadFile(c.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"local", "global", "sql"} {
		k := rep.kind(t, kind)
		if n := strings.Count(string(b), fmt.Sprintf(`"kind":%q`, kind)); n != k.Acknowledged || n == 0 {
			t.Errorf("%d %s writes are acknowledged and %d in the log", k.Acknowledged, kind, n)
		}
		if k.Acknowledged+k.Refused != k.Attempted {
			t.Errorf("%+v does not add up", k)
		}
		if kind != "local" && k.Lost != 0 {
			t.Errorf("%d %s writes are lost", k.Lost, kind)
		}
	}
	return rep
}

func (r checkReport) kind(t *testing.T, name string) checkKind {
	t.Helper()
	for _, k := range r.Kinds {
		if k.Kind == name {
			return k
		}
	}
	t.Fatalf("the report has no %s writes: %+v", name, r)
	return checkKind{}
}

// stalest is the longest time after which a local write was read in a region.
func (r checkReport) stalest(t *testing.T, region string) time.Duration {
	t.Helper()
	for _, s := range r.Staleness {
		if s.Region == region && s.Kind == "local" {
			if s.Samples == 0 || s.P50MS > s.P99MS || s.P99MS > s.MaxMS {
				t.Errorf("staleness %+v", s)
			}
			return time.Duration(s.MaxMS * float64(time.Millisecond))
		}
	}
	t.Fatalf("no staleness of local writes in %s: %+v", region, r.Staleness)
	return 0
}

// TestConsistency is what an operator relies on when regions are cut apart,
// evacuated and lost: every promise that a store made is kept, and the price of
// those that it did not make is measured.
func TestConsistency(t *testing.T) {
	for _, rt := range runtimes(t) {
		t.Run(rt.Name, func(t *testing.T) {
			args := []string{"--regions", "3"}
			if rt.containers() {
				args = append(args, "--pack", "zone")
			}
			l := up(t, rt, args...)
			for _, s := range []struct {
				name string
				run  func(*lab, []string)
			}{
				{"reads behind a cut", readsBehindCut},
				{"a global write finds a second region", globalWritesInCut},
				{"planned evacuation loses nothing", plannedLosesNothing},
				{"loss of a region", lossOfRegion},
			} {
				if !t.Run(s.name, func(t *testing.T) { s.run(l.on(t), args) }) {
					break // it may have left regions evacuated or cut apart
				}
			}
		})
	}
}

// cutTime is how long regions are cut apart.
const cutTime = 6 * time.Second

// answerTime bounds a call to a store that answers at once, or says that it
// cannot: a guard against a test that hangs.
const answerTime = 30 * time.Second

// readsBehindCut writes in one region and reads in another before, during and
// after a cut between them.
func readsBehindCut(l *lab, _ []string) {
	t := l.t
	east, west := l.kv("us-east"), l.kv("eu-west")
	read := func(key string) error {
		ctx, cancel := context.WithTimeout(t.Context(), answerTime)
		defer cancel()
		_, err := west.Get(ctx, kv.Probe, "cut", key)
		return err
	}
	write := func(key string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), answerTime)
		defer cancel()
		if err := east.Put(ctx, kv.Probe, "cut", kv.Item{Sort: key, Value: []byte("there")}); err != nil {
			t.Fatalf("a local write in us-east: %v", err)
		}
	}
	write("before")
	await(t, l.rt.patience(10*time.Second), "the write before the cut to arrive", func() error { return read("before") })

	c := l.check("us-east", int(l.rt.patience(5*time.Second).Seconds())+10, 30)
	until := time.Now().Add(cutTime) // the cut begins later, and does not end before
	l.must("lab", "wan", "cut", "us-east", "eu-west", "--for", cutTime.String())
	write("during")
	looks := 0
	awaitEvery(t, 20*time.Millisecond, cutTime+l.rt.patience(10*time.Second), "the write to arrive after the cut", func() error {
		err := read("during")
		left := time.Until(until)
		if left > 0 && services.KindOf(err) != services.NotFound {
			t.Fatalf("%s before the end of the cut eu-west answers %v", left, err)
		}
		if looks++; looks == 1 {
			t.Logf("%v, %s before the end of the cut", err, left)
		}
		return err
	})
	rep := c.report(t)
	if k := rep.kind(t, "local"); k.Lost != 0 || k.Refused != 0 {
		t.Errorf("a cut elsewhere costs a local write: %+v", k)
	}
	// The first write that was followed may have come a while after the cut.
	if s := rep.stalest(t, "eu-west"); s < cutTime/2 {
		t.Errorf("eu-west is at most %s stale, and was cut off for %s", s, cutTime)
	}
	t.Logf("stale by at most: eu-west %s, us-west %s", rep.stalest(t, "eu-west"), rep.stalest(t, "us-west"))
}

// globalWritesInCut writes globally in a region that is cut off from one other
// and then from both.
func globalWritesInCut(l *lab, _ []string) {
	t := l.t
	east := l.kv("us-east")
	acknowledged := map[string]bool{}
	put := func(key string) error {
		ctx, cancel := context.WithTimeout(t.Context(), answerTime)
		defer cancel()
		err := east.Put(ctx, kv.ProbeGlobal, "cut", kv.Item{Sort: key, Value: []byte(key)})
		acknowledged[key] = err == nil
		return err
	}
	l.must("lab", "wan", "cut", "us-east", "eu-west", "--for", "60s")
	await(t, l.rt.patience(10*time.Second), "us-west to acknowledge in place of eu-west", func() error { return put("one cut") })
	l.must("lab", "wan", "cut", "us-east", "us-west", "--for", "60s")
	start := time.Now()
	err := put("all cut")
	t.Logf("cut off from all: %v after %s", err, time.Since(start))
	if err != nil && services.KindOf(err) != services.Unavailable {
		t.Errorf("it is refused as %s: %v", services.KindOf(err), err)
	}
	l.must("lab", "wan", "heal")
	for key, ok := range acknowledged {
		if !ok {
			continue
		}
		for _, region := range []string{"us-west", "eu-west"} {
			store := l.kv(region)
			await(t, l.rt.patience(15*time.Second), fmt.Sprintf("the write %q to be in %s", key, region), func() error {
				ctx, cancel := context.WithTimeout(t.Context(), answerTime)
				defer cancel()
				_, err := store.Get(ctx, kv.ProbeGlobal, "cut", key)
				return err
			})
		}
	}
}

// The title and member of the events that an evacuation must not lose.
const (
	unwatched = "the-long-zoom"
	demo      = "m-demo"
)

// bookmark says whether a region knows where the demo member left off.
func (l *lab) bookmark(region string) error {
	ctx, cancel := context.WithTimeout(l.t.Context(), answerTime)
	defer cancel()
	_, err := l.kv(region).Get(ctx, kv.Bookmarks, demo, unwatched)
	return err
}

// plannedLosesNothing evacuates a region under writes. Its router is dead, so
// that what a viewer reported lies in the region's log alone: a saver has to
// handle it, from its copy.
func plannedLosesNothing(l *lab, _ []string) {
	t := l.t
	l.must("lab", "kill", "us-east/a/keystone/1")
	l.play("--title", unwatched, "--region", "us-east", "--seconds", "6", "--speed", "100x")
	if err := l.bookmark("us-west"); services.KindOf(err) != services.NotFound {
		t.Fatalf("a dead router has handled the report: %v", err)
	}
	c := l.check("us-east", int(l.rt.patience(5*time.Second).Seconds())+10, 30)
	m, r := l.move("failover", "us-east")
	if m.State != "done" { // what viewers felt is judged elsewhere
		t.Fatalf("the evacuation failed: %s", r.story())
	}
	if !strings.Contains(stepNames(m.Steps), "drain offsets verify") {
		t.Errorf("steps %s", stepNames(m.Steps))
	}
	await(t, l.rt.patience(10*time.Second), "a saver to handle what us-east had not", func() error { return l.bookmark("us-west") })
	rep := c.report(t)
	for _, k := range rep.Kinds {
		if k.Lost != 0 {
			t.Errorf("a planned evacuation loses %d %s writes", k.Lost, k.Kind)
		}
	}
	l.must("lab", "start", "us-east/a/keystone/1")
	if m, r := l.move("failback", "us-east"); m.State != "done" {
		t.Fatalf("the way back failed: %s", r.story())
	}
}

func stepNames(steps []step) string {
	var names []string
	for _, s := range steps {
		names = append(names, s.Name)
	}
	return strings.Join(names, " ")
}

// lossOfRegion kills all of a region under writes, evacuates what is left of
// it, and brings it back.
func lossOfRegion(l *lab, args []string) {
	t := l.t
	l.rt.seldom(t)
	seconds := int(l.rt.patience(5*time.Second).Seconds()) + 5
	c := l.check("us-east", seconds, 60)
	l.killHost("us-east")
	lost := c.report(t)
	// As far as replication lags where nothing is lost, and a margin.
	lag := max(l.rt.patience(2*time.Second), 2*max(lost.stalest(t, "us-west"), lost.stalest(t, "eu-west")))
	if k := lost.kind(t, "local"); time.Duration(k.LostOldestAgeMS*float64(time.Millisecond)) > lag {
		t.Errorf("local writes are lost that were acknowledged %.0f ms before the loss; replication lags %s at most", k.LostOldestAgeMS, lag)
	} else if k.Refused == 0 {
		t.Errorf("nobody was refused in a region that is lost: %+v", k)
	}
	for _, x := range lost.Regions {
		if x.Up == (x.Region == "us-east") {
			t.Errorf("%s: up %v", x.Region, x.Up)
		}
	}

	// Nobody promotes by itself; the evacuation of the dead region does.
	m, r := l.move("failover", "us-east")
	if m.State != "done" {
		t.Fatalf("the evacuation of a lost region failed: %s", r.story())
	}
	t.Logf("evacuated in %s: %v", r.took, m.Steps)
	rep := l.check("us-west", 5, 1).report(t)
	if k := rep.kind(t, "sql"); k.Refused != 0 {
		t.Errorf("after the promotion SQL refuses %d of %d writes", k.Refused, k.Attempted)
	}
	if p := l.play(quick("us-east")...); p.Region == "us-east" {
		t.Errorf("a dead region answers a play")
	}

	l.up(args...)
	if m, r := l.move("failback", "us-east"); m.State != "done" {
		t.Fatalf("the way back failed: %s", r.story())
	}
	// The store kept on its disk what it had not passed on.
	wantEverywhere(l, lost.ID, c.log)
	rep = l.check("us-east", 5, 1).report(t)
	for _, k := range rep.Kinds {
		if k.Refused != 0 || k.Lost != 0 {
			t.Errorf("after all of it: %+v", k)
		}
	}
}

// unmarked bounds what a killed store may not find on its own disk. Cassandra
// replays its commit log up to the last marker, which it writes every 100 ms,
// and sends nobody again what it does not find; the embedded store's log is
// whole.
func (p platform) unmarked() time.Duration {
	if p.containers() {
		return 2 * time.Second
	}
	return 0
}

// wantEverywhere waits until every write that a check had acknowledged in the
// wide-column store is in every region, but for what the store that was killed
// could not find again.
func wantEverywhere(l *lab, id, log string) {
	t := l.t
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]time.Time{"local": {}, "global": {}}
	var last time.Time
	for line := range strings.Lines(string(b)) {
		var e struct {
			Kind, Key string
			At        time.Time `json:"acknowledged_at"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: %v", log, err)
		}
		if keys, ok := want[e.Kind]; ok {
			keys[e.Key] = e.At
			if e.At.After(last) {
				last = e.At
			}
		}
	}
	certain := last.Add(-l.rt.unmarked())
	for _, region := range []string{"us-east", "us-west", "eu-west"} {
		store := l.kv(region)
		for kind, ns := range map[string]kv.Namespace{"local": kv.Probe, "global": kv.ProbeGlobal} {
			await(t, l.rt.patience(20*time.Second), fmt.Sprintf("%d %s writes to be in %s", len(want[kind]), kind, region), func() error {
				have, err := partition(t.Context(), store, ns, "check "+id+" 0")
				for key, at := range want[kind] {
					if err == nil && !have[key] && !at.After(certain) {
						err = fmt.Errorf("%s, acknowledged %s before the last, is missing", key, last.Sub(at))
					}
				}
				return err
			})
		}
	}
}

// partition lists the keys of a partition.
func partition(ctx context.Context, store kv.Store, ns kv.Namespace, name string) (map[string]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	out := map[string]bool{}
	for page := ""; ; {
		items, next, err := store.Query(ctx, ns, name, kv.Range{Page: page})
		if err != nil {
			return nil, err
		}
		for _, it := range items {
			out[it.Sort] = true
		}
		if page = next; page == "" {
			return out, nil
		}
	}
}
