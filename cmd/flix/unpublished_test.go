package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

func TestTitleThatIsBeingMade(t *testing.T) {
	jobs := func(context.Context) ([]control.Job, error) {
		return []control.Job{
			{Title: "slow-one", Name: "Slow One", State: "encode", Percent: 43, Region: "us-east"},
			{Title: "broken", Name: "Broken", State: "failed", Error: "x.mp4: not a video"},
			{Title: "ready", Name: "Ready", State: "done", Percent: 100},
		}, nil
	}
	none := func(context.Context) ([]control.Job, error) { return nil, errors.New("the daemon is gone") }
	absent := services.Errorf(services.NotFound, "no title is called so").WithReason(services.ReasonNoTitle)
	unheld := services.Errorf(services.NotFound, "no appliance knows it").WithReason(services.ReasonNoReplica)
	for _, c := range []struct {
		title string
		jobs  func(context.Context) ([]control.Job, error)
		err   error
		says  string // "": err as it is
	}{
		{"slow one", jobs, absent, `"Slow One" (slow-one) is not live yet: it is being transcoded in us-east (encode, 43 %)`},
		{"slow-one", jobs, unheld, "(encode, 43 %)"},
		{"Broken", jobs, absent, "its transcode failed: x.mp4: not a video"},
		{"ready", jobs, absent, ""},
		{"other", jobs, absent, ""},
		{"slow-one", none, absent, ""},
		{"slow-one", jobs, services.Errorf(services.Unavailable, "no gateway answers"), ""},
		{"slow-one", jobs, nil, ""},
	} {
		err := unpublished(t.Context(), c.jobs, c.title, c.err)
		if c.says == "" {
			if !errors.Is(err, c.err) {
				t.Errorf("%s: %v, want %v", c.title, err, c.err)
			}
			continue
		}
		if services.ReasonOf(err) != services.ReasonNotLive || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.title, err, c.says)
		}
	}
}
