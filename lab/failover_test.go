package lab

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flix-lab/flix/services"
)

// An evacuation right after an up was refused on a busy machine, since a saver's
// lease had lapsed for a moment and another region answered its viewers.
func TestAnsweredElsewhereIsLookedAtAgain(t *testing.T) {
	const pause, patience = time.Second, 4 * time.Second
	broken := errors.New("broken")
	for _, c := range []struct {
		name    string
		answers []PlayReport // the last one goes on
		err     error
		want    string
		took    time.Duration
	}{
		{"at once", []PlayReport{{Region: "us-west"}}, nil, "", 0},
		{"renewed", []PlayReport{{Region: "eu-west"}, {Region: "eu-west"}, {Region: "us-west"}}, nil, "", 2 * pause},
		{"lacking", []PlayReport{{Region: "eu-west"}}, nil, "us-west lacks a service", patience},
		{"failed", []PlayReport{{Region: "us-west"}}, broken, "broken", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start, n := time.Now(), 0
				err := playedIn(t.Context(), "us-west", func(context.Context, string) (PlayReport, error) {
					r := c.answers[min(n, len(c.answers)-1)]
					n++
					return r, c.err
				}, pause, patience)
				if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
					t.Errorf("it ends with %v, want %q", err, c.want)
				}
				if c.name == "lacking" && services.ReasonOf(err) != services.ReasonPlayFailed {
					t.Errorf("the reason is %q", services.ReasonOf(err))
				}
				if took := time.Since(start); took != c.took {
					t.Errorf("it took %v, want %v", took, c.took)
				}
			})
		})
	}
}
