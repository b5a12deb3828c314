package fault

import (
	"errors"
	"strings"
	"testing"

	"github.com/flix-lab/flix/services"
)

// What the remedy for an unknown target said was a thousand characters of names.
func TestUnknownTargetNamesTheNearest(t *testing.T) {
	v := planet(t)
	for typed, want := range map[string]string{
		"us-est/a/play/1": "did you mean us-east/a/play/1", "plya": "did you mean play", "us-eats": "did you mean us-east",
		"US-EAST-ISP-7": "did you mean us-east-isp-", "mars": "there are: region: us-east, us-west, eu-west; zone:", strings.Repeat("x", 4000): "there are: ",
	} {
		_, _, err := Plan("f-1", Request{Kind: "kill", Target: typed}, v)
		var e *services.Error
		if !errors.As(err, &e) || e.Kind != services.NotFound || !strings.HasPrefix(e.Remedy, want) {
			t.Errorf("%.40q: %v, want a remedy that begins %q", typed, err, want)
			continue
		}
		if !strings.Contains(e.Remedy, "flix lab status -o wide") || len(e.Remedy) > 500 {
			t.Errorf("%.40q: the remedy has %d characters: %s", typed, len(e.Remedy), e.Remedy)
		}
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
