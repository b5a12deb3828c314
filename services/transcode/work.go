package transcode

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/flix-lab/flix/services"
)

// work takes jobs of the region one after another until ctx ends.
func (s *Server) work(ctx context.Context) {
	const firstRetry = 10 * time.Millisecond
	retry := firstRetry
	swept := false
	for ctx.Err() == nil {
		jobs, err := s.list(ctx)
		wait := s.d.Timing.LeaseDuration.D()
		switch {
		case err != nil: // the store may only just have started
			wait, retry = retry, min(2*retry, s.d.Timing.LeaseRenewal.D())
		default:
			retry = firstRetry
			if !swept {
				s.sweep(jobs)
				swept = true
			}
			if oldest, ok := s.oldest(jobs); ok {
				s.run(ctx, oldest)
				continue
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// oldest is the job to work on next.
func (s *Server) oldest(jobs []record) (record, bool) {
	var (
		best  record
		found bool
		now   = time.Now()
	)
	for _, j := range jobs {
		if s.mine(j.job, now) && (!found || j.Started < best.Started) {
			best, found = j, true
		}
	}
	return best, found
}

// sweep removes scratch of jobs that are no longer this instance's.
func (s *Server) sweep(jobs []record) {
	keep := map[string]bool{}
	for _, j := range jobs {
		keep[j.ID] = j.Owner == s.d.Instance && !j.ended()
	}
	entries, err := os.ReadDir(s.d.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.d.Tel.Log.Error("scratch cannot be read", "dir", s.d.Dir, "error", err)
	}
	for _, e := range entries {
		if !keep[e.Name()] {
			s.remove(e.Name())
		}
	}
}

func (s *Server) remove(id string) {
	if err := os.RemoveAll(filepath.Join(s.d.Dir, id)); err != nil {
		s.d.Tel.Log.Error("scratch cannot be removed", "job", id, "error", err)
	}
}

// held is a job that this instance owns while it works on it. The worker and
// the heartbeat share it.
type held struct {
	s *Server
	// lost ends the work when another instance took the job.
	lost context.CancelCauseFunc

	mu  sync.Mutex
	rec record
}

var errLost = errors.New("another instance has the job")

// change applies f to the job and stores it if asked; watchers see it at once.
func (h *held) change(ctx context.Context, store bool, f func(j *job)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	j := h.rec.clone()
	f(j)
	if !store {
		h.rec.job = j
		h.s.show(j)
		return nil
	}
	j.Owner, j.Beat = h.s.d.Instance, time.Now().UnixMilli()
	rec, err := h.s.replace(ctx, h.rec, j)
	if conflict(err) {
		h.lost(errLost)
		return errLost
	}
	if err != nil {
		return err
	}
	h.rec = rec
	h.s.show(j)
	return nil
}

func (h *held) job() *job {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rec.job
}

// beat stores the job at every heartbeat until ctx ends.
func (h *held) beat(ctx context.Context) {
	tick := time.NewTicker(h.s.d.Timing.LeaseRenewal.D())
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			// A store out of reach shows at the end of the step.
			_ = h.change(ctx, true, func(*job) {})
		}
	}
}

// run takes a job and does its steps until it ends, is lost or ctx ends.
func (s *Server) run(ctx context.Context, rec record) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	h := &held{s: s, lost: cancel, rec: rec}
	defer s.show(nil)
	// Taking it is the first heartbeat: of two instances one gets a conflict.
	if err := h.change(ctx, true, func(j *job) {
		if j.Step == stepQueued {
			j.Step = stepInspect
		}
	}); err != nil {
		if !errors.Is(err, errLost) {
			s.pause(ctx) // the store went away between two calls
		}
		return
	}
	s.metrics.running.Set(1)
	defer s.metrics.running.Set(0)
	var wg sync.WaitGroup
	beat, stop := context.WithCancel(ctx)
	wg.Go(func() { h.beat(beat) })
	s.steps(ctx, h)
	stop()
	wg.Wait()
}

// pause waits a heartbeat.
func (s *Server) pause(ctx context.Context) {
	timer := time.NewTimer(s.d.Timing.LeaseRenewal.D())
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// steps does what is left of a job.
func (s *Server) steps(ctx context.Context, h *held) {
	log := s.d.Tel.Log.With("job", h.job().ID)
	for !h.job().ended() {
		current := h.job().Step
		start := time.Now()
		found, err := s.try(ctx, h, current)
		elapsed := time.Since(start)
		if ctx.Err() != nil {
			log.Info("the job is left", "step", current, "reason", context.Cause(ctx))
			return
		}
		s.metrics.seconds.WithLabelValues(string(current)).Observe(elapsed.Seconds())
		end := func(j *job) {
			found(j)
			j.Took = append(j.Took, took{current, uint64(elapsed.Milliseconds())})
			j.Step = steps[current].next
			j.Percent = steps[j.Step].at
		}
		if err != nil {
			log.Error("a step failed", "step", current, "error", err)
			end = func(j *job) {
				// The original may be another when it is tried again; only
				// what is in the object store already stays as it is.
				j.Step, j.Resume, j.Error = stepFailed, stepInspect, err.Error()
				if current == stepPublish {
					j.Resume = stepPublish
				}
			}
		}
		if err != nil || steps[current].next == stepDone {
			s.remove(h.job().ID)
		}
		for h.change(ctx, true, func(j *job) {
			end(j)
			if j.ended() {
				j.Ended = time.Now().UnixMilli()
			}
		}) != nil {
			if s.pause(ctx); ctx.Err() != nil {
				return
			}
		}
	}
	s.metrics.jobs.WithLabelValues(string(h.job().Step)).Inc()
	log.Info("the job has ended", "state", h.job().Step)
}

// attempts of a step whose dependency is out of reach, and the first wait
// between two.
const (
	attempts  = 8
	firstWait = 50 * time.Millisecond
)

// try does one step, again while a store or service is out of reach.
func (s *Server) try(ctx context.Context, h *held, st step) (func(*job), error) {
	wait := firstWait
	for n := 1; ; n++ {
		found, err := s.do(ctx, h, st)
		retry := services.KindOf(err) == services.Unavailable && services.ReasonOf(err) != services.ReasonNoFFmpeg
		if err == nil || !retry || n == attempts || ctx.Err() != nil {
			return found, err
		}
		s.d.Tel.Log.Warn("a step is tried again", "job", h.job().ID, "step", st, "error", err)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		wait = min(2*wait, s.d.Timing.LeaseDuration.D())
	}
}
