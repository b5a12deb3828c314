package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/signup"
)

// gateTime bounds the wait for a title to play from every region.
const gateTime = 30 * time.Second

// gate waits until a title has really played near every region: sign-in,
// search, licence, steering, segments, checksums.
func (l *Lab) gate(ctx context.Context, st *steps) error {
	return st.do(ctx, "ready", func(all context.Context) (string, error) {
		ctx, cancel := context.WithTimeout(all, gateTime)
		defer cancel()
		regions := l.current().Topology.RegionNames()
		var (
			mu    sync.Mutex
			delay = map[string]float64{}
		)
		g, ctx := errgroup.WithContext(ctx)
		for _, region := range regions {
			g.Go(func() error {
				r, err := l.awaitPlay(ctx, region)
				if err != nil {
					return unready(l.paths.Name, region, err)
				}
				mu.Lock()
				delay[region] = r.PlayDelayMS
				mu.Unlock()
				st.tell("up.note", region, fmt.Sprintf("a title played near %s, answered by %s, play delay %.0f ms", region, r.Region, r.PlayDelayMS))
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return "", l.heldUp(all, err)
		}
		worst := 0.0
		for _, d := range delay {
			worst = max(worst, d)
		}
		near := regions[0]
		if len(regions) > 1 {
			near = fmt.Sprintf("each of %d regions", len(regions))
		}
		return fmt.Sprintf("a title played near %s, play delay at most %.0f ms", near, worst), nil
	})
}

// unready is the error of an up near one of whose regions no title plays. The
// titles beyond the first are not published then; the same up goes on with them.
func unready(name, region string, err error) error {
	remedy := "run flix lab up" + nameFlag(name) + " again: it goes on from here, and publishes the titles that are still missing"
	var e *services.Error
	if errors.As(err, &e) && e.Remedy != "" {
		remedy += "; if it ends here again: " + e.Remedy
	}
	return &services.Error{Kind: services.KindOf(err), Reason: services.ReasonOf(err), Msg: fmt.Sprintf("no title plays near %s yet", region), Err: err, Remedy: remedy}
}

// copyTime bounds the wait for a copy of a title near a region.
const copyTime = 3 * time.Second

// awaitCopy waits until an appliance near the region holds all that it is
// assigned so far, lest the first viewers stream across the ocean. After
// copyTime they may: another region's exchange serves them.
func (l *Lab) awaitCopy(ctx context.Context, region string) error {
	cc, err := l.cacheControl(region)
	if err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, copyTime)
	defer cancel()
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		st, err := cc.FillStatus(short, &cachecontrolpb.FillStatusRequest{})
		if err == nil && slices.ContainsFunc(st.GetAppliances(), func(a *cachecontrolpb.ApplianceFill) bool {
			return a.GetRegion() == region && a.GetAssigned() > 0 && a.GetHeld() == a.GetAssigned()
		}) {
			return nil
		}
		select {
		case <-short.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// awaitPlay tries until a play succeeds. An answer that will not change by
// waiting (a denial, a wrong request) ends it at once; that there is no such
// member changes, as the members are still on their way to the replicas.
func (l *Lab) awaitPlay(ctx context.Context, region string) (PlayReport, error) {
	if err := l.awaitCopy(ctx, region); err != nil {
		return PlayReport{}, err
	}
	var last error
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		r, err := l.canaryReport(ctx, region)
		switch {
		case err == nil:
			return r, nil
		case ctx.Err() == nil:
			last = err
		}
		if k := services.KindOf(err); k == services.Denied && services.ReasonOf(err) != "" && services.ReasonOf(err) != signup.ReasonCredentials {
			return r, err
		}
		select {
		case <-ctx.Done():
			if last == nil {
				last = ctx.Err()
			}
			return r, last
		case <-time.After(wait):
		}
	}
}
