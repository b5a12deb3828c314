package transcode

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/transcode/transcodepb"
)

// Submit implements transcodepb.TranscodeServer. The same job again returns
// its state; one that failed is tried again, from its start unless only the
// publication failed; one that another region took and has not touched for a
// lease is taken over.
func (s *Server) Submit(ctx context.Context, r *transcodepb.SubmitRequest) (*transcodepb.Job, error) {
	if _, err := s.tools(); err != nil {
		return nil, err // before anything is stored
	}
	j, err := newJob(r, s.d.Region, time.Now())
	if err != nil {
		return nil, err
	}
	was, err := s.load(ctx, j.ID)
	switch {
	case err == nil:
		next, err := s.again(was.job, j, time.Now())
		if err != nil {
			return nil, err
		}
		if next == nil {
			return was.proto(), nil
		}
		j = next
	case services.KindOf(err) != services.NotFound:
		return nil, services.Wrap("transcode.Submit", err)
	}
	if _, err := s.replace(ctx, was, j); err != nil {
		if !conflict(err) {
			return nil, services.Wrap("transcode.Submit", err)
		}
		// Somebody submitted it at the same moment.
		if was, err = s.load(ctx, j.ID); err != nil {
			return nil, services.Wrap("transcode.Submit", err)
		}
		return was.proto(), nil
	}
	select {
	case s.wake <- struct{}{}:
	default: // it is awake
	}
	return j.proto(), nil
}

// again decides what a repeated submission does: nil leaves the job as it is.
func (s *Server) again(was, asked *job, now time.Time) (*job, error) {
	same := was.same(asked)
	switch {
	case was.Step == stepFailed && same && was.Region == s.d.Region:
		next := was.clone()
		next.Step, next.Owner, next.Error, next.Ended = was.Resume, "", "", 0
		next.Available, next.MinSites = asked.Available, asked.MinSites
		if next.Step == stepInspect {
			next.Took = nil
		}
		next.Percent = steps[next.Step].at
		return next, nil
	case was.Step == stepFailed, was.Region != s.d.Region && !was.ended() && same && s.silent(was, now):
		return asked, nil // from the start
	case !same:
		return nil, services.Errorf(services.Conflict, "transcode: there is a job %q already, for another title or original", was.ID).WithRemedy("choose another job id")
	}
	return nil, nil
}

// Status implements transcodepb.TranscodeServer: one job or all, oldest first.
func (s *Server) Status(ctx context.Context, r *transcodepb.StatusRequest) (*transcodepb.StatusReply, error) {
	if id := r.GetJobId(); id != "" {
		j, _, err := s.snapshot(ctx, id)
		if err != nil {
			return nil, services.Wrap("transcode.Status", err)
		}
		return &transcodepb.StatusReply{Jobs: []*transcodepb.Job{j}}, nil
	}
	jobs, err := s.list(ctx)
	if err != nil {
		return nil, services.Wrap("transcode.Status", err)
	}
	slices.SortFunc(jobs, func(a, b record) int {
		if a.Started != b.Started {
			return int(min(max(a.Started-b.Started, -1), 1))
		}
		return strings.Compare(a.ID, b.ID)
	})
	reply := &transcodepb.StatusReply{}
	for _, j := range jobs {
		if now, _ := s.shown(j.ID); now != nil {
			j.job = now
		}
		reply.Jobs = append(reply.Jobs, j.proto())
	}
	return reply, nil
}

// snapshot is the newest state of a job: from memory when this instance works
// on it. The channel is closed when that may have changed.
func (s *Server) snapshot(ctx context.Context, id string) (*transcodepb.Job, <-chan struct{}, error) {
	j, changed := s.shown(id)
	if j != nil {
		return j.proto(), changed, nil
	}
	r, err := s.load(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	return r.proto(), changed, nil
}

// Watch implements transcodepb.TranscodeServer. A job that another instance
// works on is looked at as often as that one stores its state.
func (s *Server) Watch(r *transcodepb.WatchRequest, stream transcodepb.Transcode_WatchServer) error {
	ctx := stream.Context()
	tick := time.NewTicker(s.d.Timing.LeaseRenewal.D())
	defer tick.Stop()
	var sent *transcodepb.Job
	for {
		j, changed, err := s.snapshot(ctx, r.GetJobId())
		switch {
		case err != nil && (sent == nil || services.KindOf(err) != services.Unavailable):
			return services.Wrap("transcode.Watch", err)
		case err == nil && !proto.Equal(sent, j):
			if err := stream.Send(j); err != nil {
				return err
			}
			sent = j
			if j.GetState() == string(stepDone) || j.GetState() == string(stepFailed) {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return services.Errorf(services.Unavailable, "transcode.Watch: %v", ctx.Err())
		case <-s.stopping:
			return services.Errorf(services.Unavailable, "transcode: this instance ends").WithRemedy("watch again: the job goes on")
		case <-changed:
		case <-tick.C:
		}
	}
}
