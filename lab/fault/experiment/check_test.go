package experiment

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// whole is a stage that plans as a lab does in which everything runs.
type whole struct {
	*stage
	view fault.View
}

func newWhole(t *testing.T) whole {
	s := newStage(t)
	v := fault.View{Topology: s.t, Instances: s.t.Instances(), Running: map[string]bool{}, Runtime: "embedded", Calls: map[string][]string{"license": {"Issue"}}}
	for _, i := range v.Instances {
		v.Running[i.ID] = true
	}
	return whole{s, v}
}

func (w whole) Plan(_ context.Context, r fault.Request) error {
	if w.refuse != nil {
		return w.refuse
	}
	_, _, err := fault.Plan("f-1", r, w.view)
	return err
}

const wrong = `name: wrong
title: what it shows
claim: why
traffic: {region: us-east, title: Harbour Lights}
method:
  - {kind: kill, target: us-east/a/play/9}
  - {kind: latency, target: us-east, to: us-est}
  - {kind: latency, target: us-west, params: {delay: 200}}
  - {kind: kill, target: kv@us-east}
  - {kind: disk-full, target: play}
  - {kind: fail-call, target: licence}
  - {kind: cache-flush, target: us-west}
steady_state: {error_ratio: {max: 0}}
expect:
  - {see: command, command: GetLicence, event: failure, min: 1}
`

// Check says all that a lab refuses, each with the place in the file, the value
// and what there is instead.
func TestCheckSaysAllThatALabRefuses(t *testing.T) {
	s, err := Read(strings.NewReader(wrong), "wrong.yaml")
	if err != nil {
		t.Fatal(err)
	}
	err = s.Check(t.Context(), newWhole(t))
	var ps Problems
	if !errors.As(err, &ps) || services.KindOf(err) != services.Invalid {
		t.Fatalf("%v", err)
	}
	want := []struct {
		line                int
		field, text, remedy string
	}{
		{4, "traffic.title", `"Harbour Lights"`, "flix title ls"},
		{6, "method[0].target", `"us-east/a/play/9"`, "us-east/a/play/1"},
		{7, "method[1].to", `"us-est"`, "us-east"},
		{8, "method[2]", `delay="200"`, "delay: added to each direction"},
		{9, "method[3]", "the quorum is ⌊1/2⌋+1 = 1", "force: true"},
		{10, "method[4]", "play is of the sort service", "appliance, isp, exchange"},
		{11, "method[5].target", `"licence"`, "license"},
		{15, "expect[0].command", `"GetLicence"`, "GetLicense"},
	}
	if len(ps) != len(want) {
		t.Fatalf("%d problems, want %d:\n%v", len(ps), len(want), ps)
	}
	for k, w := range want {
		if p := ps[k]; p.File != "wrong.yaml" || p.Line != w.line || p.Field != w.field || !strings.Contains(p.Text, w.text) || !strings.Contains(p.Remedy, w.remedy) {
			t.Errorf("%v\nwant line %d, field %s, %q and %q", p, w.line, w.field, w.text, w.remedy)
		}
	}
}

// Places that there are not are told before what depends on them.
func TestCheckOfPlaces(t *testing.T) {
	for change, want := range map[string][]string{
		"traffic: {region: mars, isp: nope}\ngroups: {by: region, control: venus}": {`traffic.region: there is no region "mars" → the lab's regions are us-east, us-west`, `traffic.isp: there is no ISP "nope" → the lab's ISPs are us-east-isp-1, `, `groups.control: there is no region "venus"`},
		"traffic: {region: us-east}\ngroups: {by: region, control: us-east}":       {"groups.control: both groups are near us-east"},
	} {
		s, err := Read(strings.NewReader(strings.Replace(wrong, "traffic: {region: us-east, title: Harbour Lights}", change, 1)), "x")
		if err != nil {
			t.Fatal(err)
		}
		var ps Problems
		if err := s.Check(t.Context(), newWhole(t)); !errors.As(err, &ps) || len(ps) != len(want) {
			t.Errorf("%v", err)
			continue
		}
		for _, text := range want {
			if !slices.ContainsFunc(ps, func(p Problem) bool { return strings.Contains(p.String(), text) }) {
				t.Errorf("%v\nwant %q", ps, text)
			}
		}
	}
}

// A lab that cannot tell is no problem of the experiment.
func TestCheckOfALabThatIsAway(t *testing.T) {
	w := newWhole(t)
	w.refuse = services.Errorf(services.Unavailable, "no answer")
	s := Written(defaults(), "recorded.json")
	s.Experiment.Method = []Step{{Kind: "kill", Target: "us-east/a/play/1"}}
	var ps Problems
	if err := s.Check(t.Context(), w); !errors.Is(err, w.refuse) || errors.As(err, &ps) || !strings.Contains(err.Error(), "recorded.json: method[0]") {
		t.Errorf("%v", err)
	}
	w.refuse = nil
	if err := s.Check(t.Context(), w); err != nil {
		t.Errorf("%v", err)
	}
}

// Every shipped experiment is about what a lab of three regions has.
func TestShippedExperimentsPassTheCheck(t *testing.T) {
	topo, err := topology.Preset(3)
	if err != nil {
		t.Fatal(err)
	}
	w := newWhole(t)
	w.t, w.view.Topology, w.view.Instances = topo, topo, topo.Instances()
	for _, i := range w.view.Instances {
		w.view.Running[i.ID] = true
	}
	w.view.Calls = map[string][]string{"license": {"Issue"}, "steering": {"Rank"}, "recommend": {"Rows"}}
	w.view.Paths = []string{"/play", "/discovery", "/signup"}
	for name, s := range shipped(t) {
		s.Experiment.Expect = slices.DeleteFunc(s.Experiment.Expect, func(x Expectation) bool { return x.See == "command" })
		if err := s.Check(t.Context(), w); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
