package traffic

import (
	"context"
	"fmt"
	"time"

	"github.com/flix-lab/flix/lab/player"
)

// Second is what was in about a second of a load.
type Second struct {
	// At is since its begin.
	At time.Duration
	// Active players, and plays so far: ended, failed.
	Active, Plays, Failed int
	// Starts are plays whose first picture came, per second.
	Starts float64
	// Failures of plays in this second.
	Failures int
	// Kbps received by all together.
	Kbps float64
	// RebufferRatio of the time of all players in this second, and Rebuffers.
	RebufferRatio float64
	Rebuffers     int
	// P50 and P99 of the play delays in this second, ms; 0 without a start.
	P50, P99 float64
	// TotalRebufferRatio since the begin.
	TotalRebufferRatio float64
}

// maxSeconds bounds the seconds that a result holds: of a longer load each
// second kept stands for several.
const maxSeconds = 1200

// Quantiles in milliseconds.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// Report is the JSON of "flix load".
type Report struct {
	// Players at most at once.
	Players int `json:"players"`
	// Plays that ended, those that failed among them.
	Plays       int `json:"plays"`
	PlaysFailed int `json:"plays_failed"`
	// RebufferRatio is stalled ÷ (stalled + playing) time of all plays.
	RebufferRatio float64 `json:"rebuffer_ratio"`
	// StalledPlays ran dry at least once.
	StalledPlays int `json:"stalled_plays"`
	// MeanKbps of video played, weighted by time.
	MeanKbps float64 `json:"mean_kbps"`
	// StartsPerSecond are first pictures per second, from the begin to the last
	// of them.
	StartsPerSecond float64   `json:"starts_per_second"`
	PlayDelay       Quantiles `json:"play_delay_ms"`
	// Bytes of media received.
	Bytes uint64      `json:"bytes"`
	Mode  player.Mode `json:"mode"`
}

// Result is a report with what lies behind it.
type Result struct {
	Report
	Began   time.Time
	Elapsed time.Duration
	Seconds []Second
	Errors  []Failure
	// Left counts plays that viewers walked away from.
	Left int
	// Interrupted says that somebody ended it early.
	Interrupted bool
}

// Limits are what a load must keep within.
type Limits struct {
	Failed        int
	RebufferRatio float64
}

// Verdict says whether a load kept within limits, and why not.
func (r Report) Verdict(l Limits) (holds bool, why []string) {
	if r.Plays == 0 {
		why = append(why, "no play had begun when it was over: a longer --duration may be needed")
	}
	if r.PlaysFailed > l.Failed {
		why = append(why, fmt.Sprintf("%d of %d plays failed, %d may", r.PlaysFailed, r.Plays, l.Failed))
	}
	if r.RebufferRatio > l.RebufferRatio {
		why = append(why, fmt.Sprintf("the rebuffer ratio is %.4f, at most %g is allowed", r.RebufferRatio, l.RebufferRatio))
	}
	return len(why) == 0, why
}

func (f *Fleet) result(seconds []Second, interrupted bool) Result {
	c := &f.count
	c.mu.Lock()
	defer c.mu.Unlock()
	r := Result{Began: f.began, Elapsed: time.Since(f.began), Seconds: seconds, Errors: c.errors, Left: int(c.left.Load()), Interrupted: interrupted}
	r.Report = Report{
		Players: f.c.Players, Plays: int(c.ended.Load()), PlaysFailed: int(c.failed.Load()),
		RebufferRatio: ratio(c.stalled.Load(), c.playing.Load()), StalledPlays: int(c.stalledPlays.Load()),
		PlayDelay: Quantiles{c.delays.quantile(0.5), c.delays.quantile(0.99)}, Bytes: uint64(c.bytes.Load()), Mode: f.c.Mode,
	}
	if c.seconds > 0 {
		r.MeanKbps = c.kbps / c.seconds
	}
	if n := c.shown.Load(); n > 0 {
		r.StartsPerSecond = float64(n) / max(c.lastShown.Sub(f.began).Seconds(), 1)
	}
	return r
}

// observe looks at the counts once a second until ctx ends; what it returns
// waits for that, and answers with every second.
func (f *Fleet) observe(ctx context.Context) func() []Second {
	var (
		all  []Second
		done = make(chan struct{})
	)
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		last, at := f.sums(), time.Now()
		keep, n := 1, 0
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			now, t := f.sums(), time.Now()
			s := f.second(last, now, t.Sub(at))
			last, at = now, t
			if f.c.Observe != nil {
				f.c.Observe(s)
			}
			if n++; n%keep == 0 {
				all = append(all, s)
			}
			if len(all) >= maxSeconds {
				for i := range all[:maxSeconds/2] {
					all[i] = all[2*i+1]
				}
				all, keep = all[:maxSeconds/2], 2*keep
			}
		}
	}()
	return func() []Second { <-done; return all }
}

// sums is a look at the counts.
type sums struct {
	shown, failed, bytes, playing, stalled, rebuffers int64
}

func (f *Fleet) sums() sums {
	c := &f.count
	return sums{c.shown.Load(), c.failed.Load(), c.bytes.Load(), c.playing.Load(), c.stalled.Load(), c.rebuffers.Load()}
}

func (f *Fleet) second(a, b sums, took time.Duration) Second {
	c := &f.count
	c.mu.Lock()
	p50, p99 := c.recent.quantile(0.5), c.recent.quantile(0.99)
	c.recent = histogram{}
	c.mu.Unlock()
	return Second{
		At: time.Since(f.began), Active: int(c.active.Load()), Plays: int(c.ended.Load()), Failed: int(c.failed.Load()),
		Starts: float64(b.shown-a.shown) / took.Seconds(), Failures: int(b.failed - a.failed),
		Kbps:          8 * float64(b.bytes-a.bytes) / took.Seconds() / 1000,
		RebufferRatio: ratio(b.stalled-a.stalled, b.playing-a.playing), Rebuffers: int(b.rebuffers - a.rebuffers),
		P50: p50, P99: p99, TotalRebufferRatio: ratio(b.stalled, b.playing),
	}
}
