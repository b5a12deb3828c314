package experiment

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/fixtures"
	"github.com/flix-lab/flix/services"
)

const good = `name: a-name
title: what it shows
claim: why
traffic: {viewers: 2, seconds: 6, speed: 10}
groups: {by: time}
phases: {baseline: 2s, fault: 4s}
method:
  - {kind: kill, target: us-east/a/play/1}
steady_state:
  error_ratio: {max: 0.1}
`

func TestShippedExperimentsAreValid(t *testing.T) {
	all := shipped(t)
	if len(all) < 12 {
		t.Errorf("%d experiments are shipped", len(all))
	}
	for name, s := range all {
		if s.Experiment.Name != name {
			t.Errorf("%s: its name is %q", name, s.Experiment.Name)
		}
	}
}

// shipped reads every shipped experiment.
func shipped(t *testing.T) map[string]Source {
	t.Helper()
	out := map[string]Source{}
	for _, name := range fixtures.Experiments() {
		b, err := fixtures.Experiment(name)
		if err != nil {
			t.Fatal(err)
		}
		if out[name], err = Read(bytes.NewReader(b), name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	return out
}

func TestParse(t *testing.T) {
	e, err := parse(strings.NewReader(good), "a.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if e.Phases.Fault.D() != 4*time.Second || *e.SteadyState.ErrorRatio.Max != 0.1 || e.Abort.Plays != 10 || len(e.Method) != 1 {
		t.Errorf("%+v", e)
	}
	for _, c := range []struct {
		from, to string
		line     int
		field    string
	}{
		{"title: what it shows\n", "", 1, "title"},
		{"name: a-name", "name: A Name", 1, "name"},
		{"viewers: 2", "viewrs: 2", 4, "traffic.viewrs"},
		{"viewers: 2", "viewers: many", 4, "traffic.viewers"},
		{"viewers: 2", "viewers: 0", 4, "traffic.viewers"},
		{"speed: 10", "speed: .nan", 4, "traffic.speed"},
		{"by: time", "by: luck", 5, "groups.by"},
		{"by: time", "by: client", 8, "method[0].kind"},
		{"fault: 4s", "fault: soon", 6, "phases.fault"},
		{"kind: kill", "kind: sulk", 8, "method[0].kind"},
		{"kind: kill, target: us-east/a/play/1", "kind: kill", 8, "method[0].target"},
		{"target: us-east/a/play/1", "target: x, params: {colour: red}", 8, "method[0].params"},
		{"target: us-east/a/play/1", "target: x, at: 5s", 8, "method[0].at"},
		{"target: us-east/a/play/1", "target: x, to: y", 8, "method[0].to"},
		{"target: us-east/a/play/1", "target: x, ttl: -4s", 8, "method[0].ttl"},
		{"target: us-east/a/play/1", "target: x, ttl: 25h", 8, "method[0].ttl"},
		{"kind: kill, target: us-east/a/play/1", "kind: restart, target: x, ttl: 4s", 8, "method[0].ttl"},
		{"viewers: 2", "viewers: 2, pause: -1s", 4, "traffic.pause"},
		{"viewers: 2", "viewers: 2, device: fridge", 4, "traffic.device"},
		{"fault: 4s", "fault: 4s, recovery: 2h", 6, "phases.recovery"},
		{"fault: 4s", "fault: 4s, settle: 4s", 6, "phases.settle"},
		{"title: what it shows", "title: {a: b}", 2, "title"},
		{"steady_state:", "expect: [{see: rebuffers, command: X, max: 1}]\nsteady_state:", 9, "expect[0]"},
		{"steady_state:", "expect: [{see: command, command: X, event: failuer, max: 1}]\nsteady_state:", 9, "expect[0].event"},
		{"{max: 0.1}", "{}", 10, "steady_state.error_ratio"},
		{"{max: 0.1}", "{max: 0.1, max: 0.2}", 10, "steady_state.error_ratio.max"},
		{"{max: 0.1}", "[1]", 10, "steady_state.error_ratio"},
		{"{max: 0.1}", "{max: .nan}", 10, "steady_state.error_ratio.max"},
		{"{max: 0.1}", "{max: 5}", 10, "steady_state.error_ratio.max"},
		{"{max: 0.1}", "{min: -0.1}", 10, "steady_state.error_ratio.min"},
		{"method:\n  - {kind: kill, target: us-east/a/play/1}\n", "method: kill\n", 7, "method"},
		{"phases:", "\tphases:", 6, "file"},
		{good, "", 1, "file"},
		{good, "- a\n", 1, "file"},
	} {
		text := strings.Replace(good, c.from, c.to, 1)
		_, err := parse(strings.NewReader(text), "a.yaml")
		var ps Problems
		if !errors.As(err, &ps) || services.KindOf(err) != services.Invalid {
			t.Errorf("%q instead of %q is taken: %v", c.to, c.from, err)
			continue
		}
		if p := ps[0]; p.Line != c.line || p.Field != c.field || p.Remedy == "" || p.File != "a.yaml" {
			t.Errorf("%q instead of %q: %v, want line %d, field %s and a remedy", c.to, c.from, p, c.line, c.field)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("a: &a {b: *a}\nmethod: [*a]\n"))
	f.Add([]byte("steady_state: {error_ratio: !!float x}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parse(bytes.NewReader(b), "a.yaml")
		var ps Problems
		if err != nil && (!errors.As(err, &ps) || len(ps) == 0 || len(ps) > maxProblems) {
			t.Errorf("%v", err)
		}
		if err == nil && len(e.Method) == 0 {
			t.Error("an experiment without a method is valid")
		}
	})
}

// A file is one experiment; a bound says what is wrong with it.
func TestParseSaysWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		good + "---\n" + good: "x:11: file: a second document begins here",
		good + "---\n{":       "file: ",
		strings.Replace(good, "{max: 0.1}", "{min: 0.5, max: 0.1}", 1):     "steady_state.error_ratio: min: 0.5 is above max: 0.1",
		strings.Replace(good, "title: what it shows", "title: {a: b}", 1):  "title: a mapping of fields is not what belongs here → write a text",
		strings.Replace(good, "name: a-name", "name: a-name\nseed: -1", 1): `seed: "-1" is not what belongs here → write a whole number, 0 or more`,
		strings.Replace(good, "play/1}", "play/1, params: {a: b}}", 1):     "params: kill has no parameter \"a\" → leave it out: it has none",
		strings.Replace(good, "viewers: 2", "viewers: 2, device: tab", 1):  "→ use one of tv, phone, tablet, web",
		strings.Replace(good, "{max: 0.1}", "{}", 1):                       "steady_state.error_ratio: it bounds nothing",
	} {
		if _, err := parse(strings.NewReader(text), "x"); services.KindOf(err) != services.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A bound without a largest number does not name the one that floats have.
func TestBoundBelowZero(t *testing.T) {
	_, err := parse(strings.NewReader(strings.Replace(good, "error_ratio: {max: 0.1}", "p99_ms: {max: -4}", 1)), "a.yaml")
	var ps Problems
	if !errors.As(err, &ps) || ps[0].Field != "steady_state.p99_ms.max" || ps[0].Text != "-4 is no number from 0 on" {
		t.Errorf("%v", err)
	}
}

// parse reads an experiment alone.
func parse(r io.Reader, file string) (Experiment, error) {
	s, err := Read(r, file)
	return s.Experiment, err
}
