package fault

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// The remedy for an unknown target lists everything there is, in lines that can be
// read.
func TestUnknownTargetNamesTheNearest(t *testing.T) {
	v := planet(t)
	for typed, want := range map[string]string{
		"us-est/a/play/1": "did you mean us-east/a/play/1", "plya": "did you mean play", "us-eats": "did you mean us-east",
		"US-EAST-ISP-7": "did you mean us-east-isp-", "mars": "there are:\n    region: us-east, us-west, eu-west\n    zone:", strings.Repeat("x", 4000): "there are:\n",
	} {
		_, _, err := Plan("f-1", Request{Kind: "kill", Target: typed}, v)
		var e *services.Error
		if !errors.As(err, &e) || e.Kind != services.NotFound || !strings.HasPrefix(e.Remedy, want) {
			t.Errorf("%.40q: %v, want a remedy that begins %q", typed, err, want)
			continue
		}
		for _, i := range v.Instances {
			place, name := i.ID[:strings.LastIndex(i.ID, "/"+string(i.Role))], string(i.Role)+"/"
			line := strings.Index(e.Remedy, place+"/{")
			if line < 0 || !strings.Contains(strings.SplitN(e.Remedy[line:], "\n", 2)[0], name) || !strings.Contains(e.Remedy, "service: ") {
				t.Errorf("%.40q: the remedy has no %s: %s", typed, i.ID, e.Remedy)
			}
		}
		for line := range strings.Lines(e.Remedy) {
			if len(line) > 300 {
				t.Errorf("%.40q: a line of %d characters: %s", typed, len(line), line)
			}
		}
	}
}

// A planet's names are too many.
func TestExistingIsBounded(t *testing.T) {
	v := planet(t)
	for k := range 100 {
		v.Instances = append(v.Instances, topology.Instance{ID: fmt.Sprintf("far-%d/a/play/1", k), Role: topology.RolePlay})
	}
	if got := v.existing([]string{sortInstance}); !strings.Contains(got, "far-17/a/play/1\n      and 82 more: flix lab status") || strings.Contains(got, "far-18/") {
		t.Errorf("%s", got)
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"play", "plya", 1}, {"é", "e", 1}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

// TestKindsHaveLists looks for what a program would read as null.
func TestKindsHaveLists(t *testing.T) {
	for _, k := range Kinds() {
		if k.Params == nil || k.Targets == nil || k.Runtimes == nil {
			t.Errorf("%s: %+v", k.Name, k)
		}
	}
}
