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

// TestFillVerbs pauses, pins and explains fills, and loses a source in the
// middle of one.
func TestFillVerbs(t *testing.T) {
	for _, rt := range runtimes(t) {
		t.Run(rt.Name, func(t *testing.T) {
			l := up(t, rt, "--regions", "1")
			t.Run("explain", func(t *testing.T) { explainSaysFromWhere(l.on(t)) })
			t.Run("pause", func(t *testing.T) { pauseHoldsTheFill(l.on(t)) })
			t.Run("pin", func(t *testing.T) { pinIsARule(l.on(t)) })
			t.Run("refused", func(t *testing.T) { fillRefusals(l.on(t)) })
			t.Run("killed source", func(t *testing.T) { sourceDiesWithinAFill(l.on(t)) })
			t.Run("routes", func(t *testing.T) { routesFromAFile(l.on(t)) })
		})
	}
}

type fillExplained struct {
	State  string `json:"state"`
	Why    string `json:"why"`
	Own    bool   `json:"own"`
	Checks []struct {
		Check string `json:"check"`
		OK    bool   `json:"ok"`
		Text  string `json:"text"`
	} `json:"checks"`
	Files []struct {
		Path   string `json:"path"`
		State  string `json:"state"`
		Source string `json:"source"`
		From   string `json:"from"`
		Why    string `json:"why"`
	} `json:"files"`
}

func (l *lab) explained(title, appliance string) (e fillExplained) {
	l.t.Helper()
	return read[fillExplained](l, "fill", "explain", title, appliance)
}

const (
	ispOne = "us-east/us-east-isp-1/oca/1"
	ispTwo = "us-east/us-east-isp-1/oca/2"
)

func explainSaysFromWhere(l *lab) {
	t := l.t
	l.must("fill", "run", "--watch")
	for appliance, sources := range map[string][]string{ispOne: {"tier", "peer"}, "us-east/us-east-ix/oca/1": {"cache", "peer"}} {
		e := l.explained("harbor-lights", appliance)
		if e.State != "held" || !e.Own || len(e.Files) == 0 {
			t.Fatalf("%s: %+v", appliance, e)
		}
		for _, f := range e.Files {
			if f.State != "held" || !slices.Contains(sources, f.Source) || f.From == "" {
				t.Errorf("%s: %s is %s by %s from %q", appliance, f.Path, f.State, f.Source, f.From)
			}
		}
	}
}

// pauseHoldsTheFill deletes a file of a paused appliance: it stays away until
// the fill is resumed, and the plan says so.
func pauseHoldsTheFill(l *lab) {
	t := l.t
	l.must("fill", "pause", ispOne)
	victim := l.stored(ispOne)[0]
	if err := os.Remove(victim); err != nil {
		t.Fatal(err)
	}
	l.must("fill", "run", "--now")
	var plan struct {
		Missing uint64 `json:"missing_bytes"`
		ETA     int64  `json:"eta_ms"`
		Moves   []struct {
			Appliance string `json:"appliance"`
			State     string `json:"state"`
			From      string `json:"from"`
			Why       string `json:"why"`
		} `json:"moves"`
	}
	await(t, l.rt.patience(15*time.Second), "the plan to miss the file", func() error {
		r := l.must("fill", "plan", "--scope", ispOne, "-o", "json")
		if err := json.Unmarshal([]byte(r.stdout), &plan); err != nil {
			return err
		}
		if len(plan.Moves) == 0 {
			return fmt.Errorf("nothing is missing: %s", r.stdout)
		}
		return nil
	})
	for _, m := range plan.Moves {
		if m.State != "blocked" || !strings.Contains(m.Why, "paused") || m.From == "" {
			t.Errorf("%+v, want a blocked move, its source and why", m)
		}
	}
	if plan.ETA != -1 || plan.Missing == 0 {
		t.Errorf("eta %d, missing %d", plan.ETA, plan.Missing)
	}
	if r := l.flix("fill", "run", "--watch"); r.code == 0 || !strings.Contains(r.stderr, "paused") {
		t.Errorf("a run that cannot end: %s", r.story())
	}
	l.must("fill", "resume", ispOne)
	l.must("fill", "run", "--now", "--watch")
	wantWhole(t, victim)
}

func pinIsARule(l *lab) {
	t := l.t
	var rules struct {
		Rules []struct{ Kind, Scope, Title, Since string } `json:"rules"`
	}
	decode(t, l.must("fill", "pin", "harbor-lights", "us-east-isp-1", "-o", "json"), &rules)
	if len(rules.Rules) != 1 || rules.Rules[0].Kind != "pin" || rules.Rules[0].Scope != "us-east-isp-1" || rules.Rules[0].Title == "" {
		t.Fatalf("%+v", rules)
	}
	e := l.explained("harbor-lights", ispTwo)
	for _, c := range e.Checks {
		if c.Check == "pin" && (!c.OK || !strings.Contains(c.Text, "us-east-isp-1")) {
			t.Errorf("%+v", c)
		}
	}
	decode(t, l.must("fill", "unpin", "harbor-lights", "us-east-isp-1", "-o", "json"), &rules)
	if len(rules.Rules) != 0 {
		t.Errorf("after unpin: %+v", rules)
	}
}

func fillRefusals(l *lab) {
	for _, c := range []struct {
		args []string
		text string
	}{
		{[]string{"fill", "explain", "no-such-title", ispOne}, "no-such-title"},
		{[]string{"fill", "explain", "harbor-lights", "mars"}, "mars"},
		{[]string{"fill", "pause", "mars"}, "mars"},
		{[]string{"fill", "pin", "no-such-title", ispOne}, "no-such-title"},
		{[]string{"fill", "explain", "harbor-lights", "oca/1"}, "may be"},
		{[]string{"fill", "explain", "harbor-lights", "us-east-isp-1"}, "name one of it, e.g. us-east/us-east-isp-1/oca/1"},
	} {
		if r := l.flix(c.args...); r.code == 0 || !strings.Contains(r.stderr, c.text) {
			l.t.Errorf("%s", r.story())
		}
	}
}

// sourceDiesWithinAFill empties one appliance of a site, lets it fill from its
// neighbour and kills that at once: what is missing then comes from the exchange,
// and nothing wrong is stored.
func sourceDiesWithinAFill(l *lab) {
	t := l.t
	before := l.fill()
	files := l.stored(ispOne)
	l.must("fill", "pause", ispOne)
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	l.must("fill", "run", "--now")
	await(t, l.rt.patience(15*time.Second), "the loss to be noticed", func() error {
		if a := l.fill().appliance(t, ispOne); a.Held != 0 {
			return fmt.Errorf("it still reports %d files", a.Held)
		}
		return nil
	})
	l.must("fill", "resume", ispOne)
	l.must("lab", "kill", ispTwo)
	defer l.must("lab", "start", ispTwo)
	await(t, l.rt.patience(60*time.Second), "the fill of "+ispOne, func() error {
		if a := l.fill().appliance(t, ispOne); a.Held != a.Assigned || a.Assigned == 0 {
			return fmt.Errorf("%d of %d files", a.Held, a.Assigned)
		}
		return nil
	})
	for _, f := range files {
		wantWhole(t, f)
	}
	if after := l.fill(); after.OriginEgressBytes != before.OriginEgressBytes {
		t.Errorf("it cost the origin %d bytes", after.OriginEgressBytes-before.OriginEgressBytes)
	}
}

func routesFromAFile(l *lab) {
	t := l.t
	file := filepath.Join(t.TempDir(), "table.txt")
	if err := os.WriteFile(file, []byte("203.0.113.0/24 us-east-isp-1 1 10\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.must("steer", "routes", file)
	await(t, l.rt.patience(10*time.Second), "steering by the table", func() error {
		r := l.must("steer", "explain", "--ip", "203.0.113.9", "--title", "harbor-lights", "-o", "json")
		var e struct {
			Candidates []struct{ Site string } `json:"candidates"`
		}
		if err := json.Unmarshal([]byte(r.stdout), &e); err != nil {
			return err
		}
		if len(e.Candidates) == 0 || e.Candidates[0].Site != "us-east-isp-1" {
			return fmt.Errorf("%+v", e.Candidates)
		}
		return nil
	})
	if err := os.WriteFile(file, []byte("\n203.0.113.0/24 us-east-isp-1 many\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := l.flix("steer", "routes", file); r.code == 0 || !strings.Contains(r.stderr, "table.txt:2: as_path") {
		t.Errorf("%s", r.story())
	}
	l.must("steer", "routes", "--clear")
	wantFields(t, "misses", []byte(l.must("steer", "misses", "-o", "json").stdout), "misses", "decisions", "bytes")
}
