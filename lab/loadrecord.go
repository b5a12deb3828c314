package lab

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/flix-lab/flix/lab/record"
	"github.com/flix-lab/flix/lab/traffic"
	"github.com/flix-lab/flix/services"
)

func secondsOf(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// Records are what was measured in a lab.
func Records(p Paths) record.Store { return record.In(p.Dir) }

// KeepLoad leaves a record of a load in the lab's state and returns its id.
func KeepLoad(p Paths, c traffic.Config, limits traffic.Limits, r traffic.Result) (string, error) {
	data, err := json.Marshal(r.Report)
	if err != nil {
		return "", fmt.Errorf("load: %w", err)
	}
	holds, why := r.Verdict(limits)
	rec := record.Record{
		ID: newID(), Kind: "load", Started: r.Began.UTC(), Ended: r.Began.Add(r.Elapsed).UTC(), State: "holds", Data: data, Series: loadSeries(r.Seconds),
		Summary: fmt.Sprintf("%s by up to %s, %s, %s mode at %gx: %d failed", services.Count(r.Plays, "play"), services.Count(r.Players, "player"), c.Shape, r.Mode, c.Speed, r.PlaysFailed),
		Figures: []record.Figure{
			{Name: "players", Value: float64(r.Players)},
			{Name: "plays", Value: float64(r.Plays)},
			// Of loads of different lengths the shares can be compared.
			{Name: "plays failed", Value: float64(r.PlaysFailed)},
			{Name: "failed ratio", Value: shareOf(r.PlaysFailed, r.Plays), Better: "less"},
			{Name: "stalled plays", Value: float64(r.StalledPlays)},
			{Name: "stalled ratio", Value: shareOf(r.StalledPlays, r.Plays), Better: "less"},
			{Name: "rebuffer ratio", Value: r.RebufferRatio, Better: "less"},
			{Name: "starts per second", Value: r.StartsPerSecond, Unit: "1/s"},
			{Name: "play delay p50", Value: r.PlayDelay.P50, Unit: "ms", Better: "less"},
			{Name: "play delay p99", Value: r.PlayDelay.P99, Unit: "ms", Better: "less"},
			{Name: "mean bit rate", Value: r.MeanKbps, Unit: "kbit/s", Better: "more"},
			{Name: "bytes", Value: float64(r.Bytes), Unit: "bytes"},
		},
		Notes: []string{fmt.Sprintf("at most %d plays may fail, the rebuffer ratio may be at most %g; seed %d", limits.Failed, limits.RebufferRatio, c.Seed)},
	}
	if !holds {
		rec.State = "fails"
		rec.Notes = append(rec.Notes, why...)
	}
	if r.Interrupted {
		rec.Notes = append(rec.Notes, "it was ended early")
	}
	for _, e := range r.Errors {
		rec.Notes = append(rec.Notes, fmt.Sprintf("%d × %s", e.Plays, e.Text))
	}
	return rec.ID, Records(p).Keep(rec)
}

// shareOf is some of all, between 0 and 1.
func shareOf(some, all int) float64 { return float64(some) / float64(max(all, 1)) }

// loadSeries are a load's seconds, one series for each figure.
func loadSeries(seconds []traffic.Second) []record.Series {
	of := func(name, unit string, f func(traffic.Second) float64) record.Series {
		s := record.Series{Name: name, Unit: unit, Points: []record.Point{}}
		for _, x := range seconds {
			s.Points = append(s.Points, record.Point{At: x.At.Seconds(), Value: f(x)})
		}
		return s
	}
	return []record.Series{
		of("active players", "", func(x traffic.Second) float64 { return float64(x.Active) }),
		of("starts", "1/s", func(x traffic.Second) float64 { return x.Starts }),
		of("failed plays", "1/s", func(x traffic.Second) float64 { return float64(x.Failures) }),
		of("rebuffer ratio", "", func(x traffic.Second) float64 { return x.RebufferRatio }),
		of("play delay p99", "ms", func(x traffic.Second) float64 { return x.P99 }),
		of("received", "kbit/s", func(x traffic.Second) float64 { return x.Kbps }),
	}
}
