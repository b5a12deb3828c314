package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/gateway"
	"github.com/flix-lab/flix/topology"
)

const (
	// squeezeLapse is how long a share outlives the last word about it: a
	// squeeze whose daemon dies ends by itself.
	squeezeLapse = 5 * time.Second
	// squeezeLook is how often the figures are looked at within a step.
	squeezeLook = 100 * time.Millisecond
	// squeezeLonger is by how much a step may be prolonged for want of requests.
	squeezeLonger = 5
	// squeezeRefine is how many shares are tried between the last that was
	// within the limits and the first that was not.
	squeezeRefine = 2
	// squeezeSteps bounds the shares that are tried.
	squeezeSteps = 40
	// squeezeExpected requests have to be an instance's share, and none reach it,
	// to say that it gets none: it is chance once in exp(squeezeExpected) steps.
	squeezeExpected = 20
)

// squeezer runs one squeeze test.
type squeezer struct {
	l      *Lab
	r      control.SqueezeRequest
	region string
	number int // of the step
	p      control.Progress
	res    *control.SqueezeResult
}

// Squeeze implements control.Engine.
func (l *Lab) Squeeze(ctx context.Context, r control.SqueezeRequest, p control.Progress) (control.SqueezeResult, error) {
	res := control.SqueezeResult{VIP: r.VIP, Instance: r.Instance, Until: control.SqueezeLimits{P99MS: r.P99MS, ErrorRatio: r.ErrorRatio}, Steps: []control.SqueezeStep{}}
	if !l.squeezing.TryLock() {
		return res, services.Errorf(services.Conflict, "another squeeze test runs").WithRemedy("wait until it is done: flix events -f")
	}
	defer l.squeezing.Unlock()
	share, err := l.squeezable(r)
	if err != nil {
		return res, err
	}
	res.Region, _, _ = strings.Cut(r.Instance, "/")
	start := time.Now()
	q := &squeezer{l: l, r: r, region: res.Region, p: p, res: &res}
	l.log.Add("squeeze.begin", r.Instance, "squeezing "+r.Instance, nil)
	run, stop := context.WithCancel(ctx)
	defer stop()
	l.stopSqueeze.Store(&stop)
	err = q.run(run, share)
	l.stopSqueeze.Store(nil)
	// Whatever happened, the interrupt of the one who asked included.
	rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), squeezeLapse)
	defer cancel()
	res.Restored = q.restore(rctx)
	res.MS = float64(time.Since(start).Microseconds()) / 1000
	res.Verdict = q.verdict(err)
	l.log.Add("squeeze.end", r.Instance, res.Verdict, map[string]any{"capacity_rps": res.CapacityRPS, "saturated": res.Saturated, "restored": res.Restored})
	return res, err
}

// StopSqueeze implements control.Engine.
func (l *Lab) StopSqueeze(context.Context, struct{}) (struct{}, error) {
	if stop := l.stopSqueeze.Load(); stop != nil {
		(*stop)()
	}
	return struct{}{}, nil
}

// squeezable checks a request and returns the share that the instance has
// already.
func (l *Lab) squeezable(r control.SqueezeRequest) (float64, error) {
	i, err := l.need()
	if err != nil {
		return 0, err
	}
	switch {
	case r.P99MS <= 0 && r.ErrorRatio <= 0:
		return 0, services.Errorf(services.Invalid, "--until: no limit says when the instance is saturated").WithRemedy("write it like --until p99=50ms, or --until p99=50ms,errors=5%%")
	case r.StepMS < 100 || r.StepMS > 600_000:
		return 0, services.Errorf(services.Invalid, "--step: %v ms is not between 100ms and 10m", r.StepMS).WithRemedy("write it like --step 2s")
	case !(r.Growth > 1 && r.Growth <= 10):
		return 0, services.Errorf(services.Invalid, "--growth: %v is not above 1 and at most 10", r.Growth).WithRemedy("write it like --growth 1.4")
	case !(r.MaxShare > 0 && r.MaxShare <= 1):
		return 0, services.Errorf(services.Invalid, "--max-share: %v is not above 0 and at most 1", r.MaxShare).WithRemedy("write it like --max-share 0.8")
	case r.MinRequests < 0:
		return 0, services.Errorf(services.Invalid, "--min-requests: %d is below 0", r.MinRequests).WithRemedy("write it like --min-requests 100; 0 takes steps as they come")
	}
	region, _, _ := strings.Cut(r.Instance, "/")
	var ids []string
	for _, inst := range i.instances() {
		if inst.Region == region && string(inst.Role) == r.VIP {
			ids = append(ids, inst.ID)
		}
	}
	switch {
	case len(ids) == 0 && !slices.ContainsFunc(i.instances(), func(x topology.Instance) bool { return string(x.Role) == r.VIP }):
		return 0, services.Errorf(services.NotFound, "there is no VIP %q", r.VIP).WithRemedy("a VIP is the role of instances: flix lab status -o wide shows them")
	case !slices.Contains(ids, r.Instance):
		return 0, services.Errorf(services.NotFound, "--instance: %q is not an instance of %s", r.Instance, r.VIP).WithRemedy("name one of %s", strings.Join(ids, ", "))
	case i.Evacuated[region] != "":
		return 0, services.Errorf(services.Conflict, "--instance: %s is evacuated: its gateways send every request to other regions", region).WithRemedy("return its traffic first: flix failback %s", region)
	}
	return min(1/float64(len(ids)), r.MaxShare), nil
}

// run grows the share until a limit is reached, then looks between the last two
// shares. One that is beyond a limit from the start is given less.
func (q *squeezer) run(ctx context.Context, share float64) error {
	good, bad := 0.0, 0.0 // shares within and beyond the limits
	refined := 0
	for len(q.res.Steps) < squeezeSteps {
		s, err := q.step(ctx, share)
		if err != nil {
			return err
		}
		if s.Requests == 0 { // smaller shares tell nothing more
			return nil
		}
		if s.Within {
			good = share
			q.res.CapacityRPS = max(q.res.CapacityRPS, s.RPS)
			if bad == 0 && share >= q.r.MaxShare {
				return nil // it took all there is
			}
		} else {
			bad, q.res.Saturated, q.res.Reason = share, true, q.reason(s)
		}
		switch {
		case bad == 0:
			share = min(share*q.r.Growth, q.r.MaxShare)
		case good == 0:
			if share /= 2; share < 0.01 {
				return nil
			}
		case refined == squeezeRefine:
			return nil
		default:
			refined++
			share = (good + bad) / 2
		}
	}
	return nil
}

func (q *squeezer) reason(s control.SqueezeStep) string {
	if q.r.ErrorRatio > 0 && s.ErrorRatio > q.r.ErrorRatio {
		return "errors"
	}
	return "p99"
}

// step holds a share for as long as its figures take.
func (q *squeezer) step(ctx context.Context, share float64) (control.SqueezeStep, error) {
	q.number++
	length := time.Duration(q.r.StepMS * float64(time.Millisecond))
	start := time.Now()
	tick := time.NewTicker(squeezeLook)
	defer tick.Stop()
	var s control.SqueezeStep
	var told time.Time
	for {
		if time.Since(told) > squeezeLapse/5 {
			if err := q.set(ctx, share); err != nil {
				return s, err
			}
			told = time.Now()
		}
		select {
		case <-ctx.Done():
			return s, ctx.Err()
		case <-tick.C:
		}
		gone := time.Since(start)
		if gone < length {
			continue
		}
		var err error
		if s, err = q.look(ctx, share); err != nil {
			return s, err
		}
		if s.Requests >= q.r.MinRequests || gone >= squeezeLonger*length {
			break
		}
	}
	if s.Requests+s.Others == 0 {
		return s, services.Errorf(services.Conflict, "no request for %s came through the gateways of %s: there is nothing to squeeze with", q.r.VIP, q.region).
			WithRemedy("let viewers come (flix load, or any client of the API) while the test runs, or let it ask by itself: --drive PATH")
	}
	if s.Requests == 0 && (len(q.res.Steps) == 0 || share*float64(s.Others) >= squeezeExpected) {
		return s, services.Errorf(services.Unavailable, "%s got none of %d requests: it is not up, or cannot be reached", q.r.Instance, s.Others).WithRemedy("see what runs: flix lab status -o wide")
	}
	if s.Requests == 0 { // so few come that its share is none of them
		return s, nil
	}
	q.res.Steps = append(q.res.Steps, s)
	if q.p != nil {
		q.p(control.Event{At: time.Now().UTC(), Kind: "squeeze.step", Subject: q.r.Instance, Text: fmt.Sprintf("%.0f %% of %s: %.0f requests/s, p99 %.1f ms, %.1f %% errors", share*100, q.r.VIP, s.RPS, s.P99MS, s.ErrorRatio*100),
			Data: map[string]any{"share": share, "rps": s.RPS, "p99_ms": s.P99MS, "error_ratio": s.ErrorRatio, "within": s.Within}})
	}
	return s, nil
}

// set tells every gateway of the region.
func (q *squeezer) set(ctx context.Context, share float64) error {
	b, err := json.Marshal(gateway.Squeeze{VIP: q.r.VIP, Instance: q.r.Instance, Share: share, Step: q.number, UntilMS: time.Now().Add(squeezeLapse).UnixMilli()})
	if err != nil {
		return err
	}
	n, err := q.post(ctx, string(b))
	if n == 0 && err == nil {
		err = services.Errorf(services.Unavailable, "no gateway of %s answers", q.region)
	}
	return err
}

// post sets the property at every gateway that runs and counts those that took
// it. It is no part of what is wanted of the lab: nothing of it outlives the
// gateways.
func (q *squeezer) post(ctx context.Context, value string) (int, error) {
	specs, err := q.l.gateways(q.region)
	if err != nil || q.l.isDown(q.region) {
		return 0, err
	}
	errs := make([]error, len(specs))
	var wg sync.WaitGroup
	for k, s := range specs {
		wg.Go(func() {
			errs[k] = q.l.admin(ctx, s, http.MethodPost, "/properties", map[string]string{gateway.PropertySqueeze: value}, nil)
		})
	}
	wg.Wait()
	n := 0
	for _, e := range errs {
		if e == nil {
			n++
		}
	}
	return n, ctx.Err()
}

// look adds up what the gateways saw of the step.
func (q *squeezer) look(ctx context.Context, share float64) (control.SqueezeStep, error) {
	_, got, errs, err := askGateways[gateway.SqueezeReport](ctx, q.l, q.region, "/squeeze")
	s := control.SqueezeStep{Share: share}
	if err != nil {
		return s, err
	}
	var times []int64
	for k, g := range got {
		if errs[k] != nil || g.Step != q.number || g.VIP != q.r.VIP {
			continue
		}
		s.Requests += g.Requests
		s.Errors += g.Errors
		s.Others += g.Others
		s.MS = max(s.MS, g.MS)
		if g.MS > 0 {
			s.RPS += float64(g.Requests-g.Errors) / g.MS * 1000
		}
		if times == nil {
			times = make([]int64, len(g.Times))
		}
		for b := range min(len(times), len(g.Times)) {
			times[b] += g.Times[b]
		}
	}
	s.P50MS, s.P99MS = quantile(times, 0.5), quantile(times, 0.99)
	if s.Requests > 0 {
		s.ErrorRatio = float64(s.Errors) / float64(s.Requests)
	}
	s.Within = (q.r.P99MS <= 0 || s.P99MS <= q.r.P99MS) && (q.r.ErrorRatio <= 0 || s.ErrorRatio <= q.r.ErrorRatio)
	return s, nil
}

// quantile reads a quantile off counts by gateway.LatencyBucket, in
// milliseconds.
func quantile(counts []int64, p float64) float64 {
	var all, seen int64
	for _, n := range counts {
		all += n
	}
	for k, n := range counts {
		seen += n
		if n > 0 && float64(seen) >= p*float64(all) {
			return float64(gateway.LatencyBucket(k).Microseconds()) / 1000
		}
	}
	return 0
}

// restore takes the squeeze back everywhere and says whether all gateways that
// run have their usual shares.
func (q *squeezer) restore(ctx context.Context) bool {
	for {
		_, err := q.post(ctx, "")
		_, got, errs, aerr := askGateways[gateway.SqueezeReport](ctx, q.l, q.region, "/squeeze")
		left := errors.Join(err, aerr) != nil
		for k := range got {
			left = left || (errs[k] == nil && got[k].VIP != "")
		}
		if !left {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(squeezeLook):
		}
	}
}

func (q *squeezer) verdict(err error) string {
	r := q.res
	shares := "; the shares are as they were"
	if !r.Restored {
		shares = fmt.Sprintf("; the shares go back by themselves within %s", squeezeLapse)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return "interrupted" + shares
	case err != nil:
		return "cut short: " + err.Error() + shares
	case r.Saturated && r.CapacityRPS == 0:
		return fmt.Sprintf("%s is beyond its limit of %s at any share that was tried%s", r.Instance, r.Reason, shares)
	case r.Saturated:
		return fmt.Sprintf("%s answers %.0f requests/s within its limits, and reaches that of %s beyond%s", r.Instance, r.CapacityRPS, r.Reason, shares)
	}
	return fmt.Sprintf("%s is not saturated by all the traffic there is: it answers %.0f requests/s or more%s", r.Instance, r.CapacityRPS, shares)
}
