package main

import (
	"context"
	"strings"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

// unpublished says of a title that was not found what it waits for, if a transcode
// job is to make it. Any other error is returned as it is, and so is this one when
// no job is of that title or the jobs cannot be asked for.
func unpublished(ctx context.Context, jobs func(context.Context) ([]control.Job, error), title string, err error) error {
	switch services.ReasonOf(err) {
	case services.ReasonNoTitle, services.ReasonNoReplica:
	default:
		return err
	}
	all, jerr := jobs(ctx)
	if jerr != nil {
		return err
	}
	for _, j := range all {
		if !strings.EqualFold(j.Title, title) && !strings.EqualFold(j.Name, title) {
			continue
		}
		switch j.State {
		case "done":
			return err
		case "failed":
			return services.Errorf(services.Conflict, "%q (%s) is not live: its transcode failed: %s", j.Name, j.Title, j.Error).
				WithReason(services.ReasonNotLive).WithRemedy("add it again: flix title add FILE --name %q --id %s", j.Name, j.Title)
		}
		return services.Errorf(services.Conflict, "%q (%s) is not live yet: it is being transcoded in %s (%s, %.0f %%)", j.Name, j.Title, j.Region, j.State, j.Percent).
			WithReason(services.ReasonNotLive).WithRemedy("play it when flix transcode status says that its job is done")
	}
	return err
}
