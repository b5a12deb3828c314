package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/flix-lab/flix/services"
)

// An up that gives up before a title has played leaves the rest of the catalogue
// for the next one, and says so before anything else.
func TestUnreadySaysHowToGoOn(t *testing.T) {
	played := services.Errorf(services.Unavailable, "no appliance delivers").WithReason(services.ReasonPlayFailed).WithRemedy("flix fill status shows what the appliances hold")
	for name, c := range map[string]struct {
		err          error
		kind         services.Kind
		reason, then string
	}{
		"a play that fails": {fmt.Errorf("play: %w", played), services.Unavailable, services.ReasonPlayFailed, "; if it ends here again: flix fill status shows what the appliances hold"},
		"no time left":      {context.DeadlineExceeded, services.Unavailable, "", "missing"},
	} {
		err := unready("other", "us-west", c.err)
		var e *services.Error
		if !errors.As(err, &e) || e.Kind != c.kind || e.Reason != c.reason || !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !strings.Contains(err.Error(), "us-west") || !strings.HasPrefix(e.Remedy, "run flix lab up --name other again") || !strings.HasSuffix(e.Remedy, c.then) {
			t.Errorf("%s: %v, remedy %q", name, err, e.Remedy)
		}
	}
}
