package evacuate

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services"
)

func (r *Run) playsFailed() error {
	return &services.Error{Kind: services.Unavailable, Reason: services.ReasonPlayFailed, Err: r.lastError(),
		Msg:    services.Count(r.failures(), "play") + " failed during it",
		Remedy: r.remedy()}
}

// remedy says where to look when plays fail.
func (r *Run) remedy() string {
	who := "the savers"
	if r.report.Verb == Return {
		who = r.report.Region
	}
	return "look at " + who + ": flix lab status, flix events"
}

// playFailed is the error of a run that a failed canary ends.
func (r *Run) playFailed(msg string) error {
	return &services.Error{Kind: services.Unavailable, Reason: services.ReasonPlayFailed, Err: r.lastError(), Msg: msg, Remedy: r.remedy()}
}

// canaryEvery is the pause between two canary plays.
const canaryEvery = 200 * time.Millisecond

// withCanaries runs f while a canary near the region plays again and again,
// and counts the plays in the report.
func (r *Run) withCanaries(ctx context.Context, region string, f func(context.Context) error) error {
	canaries, stop := context.WithCancel(ctx)
	var (
		wg   sync.WaitGroup
		over atomic.Bool
	)
	wg.Go(func() {
		for !over.Load() && canaries.Err() == nil {
			// A play that has begun is played to its end: cutting it off would
			// make a failure of what was none.
			_ = r.play(ctx, region)
			_ = sleep(canaries, canaryEvery) // cancelled: the loop ends
		}
	})
	err := f(ctx)
	over.Store(true)
	stop()
	wg.Wait()
	return err
}

func (r *Run) play(ctx context.Context, near string) error {
	return r.played(ctx, near, r.Planet.Play(ctx, near))
}

// playIn is play where another region's answer is a failure.
func (r *Run) playIn(ctx context.Context, region string) error {
	return r.played(ctx, region, r.Planet.PlayIn(ctx, region))
}

// played counts a play.
func (r *Run) played(ctx context.Context, near string, err error) error {
	if ctx.Err() != nil { // the whole run was cancelled: not the play's fault
		return ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.plays++
	if err != nil {
		r.failed++
		r.lastErr = err
		r.tell(r.report.Verb+".play_failed", fmt.Sprintf("a play near %s failed: %v", near, err), nil)
	}
	return err
}

// forgetTrials drops what plays near regions that were left out told: they
// were no canaries of this evacuation.
func (r *Run) forgetTrials() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.plays, r.failed, r.lastErr = 0, 0, nil
}

func (r *Run) failures() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *Run) lastError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lastErr
}
