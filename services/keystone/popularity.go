package keystone

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/resilience"
)

// Popularity is the value of an item of kv.Popularity: how much a region
// watches a title.
type Popularity struct {
	// Bytes streamed and Plays begun, since the title is known.
	Bytes uint64 `json:"bytes"`
	Plays uint64 `json:"plays"`
	// Score is bytes streamed ÷ size of the title, exponentially smoothed: it
	// halves within one half-life in which nobody watches, as of At. Dividing
	// by the size is how Open Connect orders its fill: what matters is what a
	// stored byte brings.
	Score float64   `json:"score"`
	At    time.Time `json:"at"`
	// Slow is Score with a half-life four times as long, and Forecast what is
	// expected next: Score, raised or lowered by how much more or less was
	// watched of late than over the longer time, to twice or half at most.
	Slow     float64 `json:"slow"`
	Forecast float64 `json:"forecast"`
	// Rungs are the bytes streamed of each rung, smoothed as Score is.
	Rungs map[string]float64 `json:"rungs,omitempty"`
}

const (
	// slower is how much longer Slow remembers than Score.
	slower = 4
	// maxTrend bounds the forecast: twice, or half of what is measured.
	maxTrend = 2.0
	// maxRungs bounds the rungs of a title.
	maxRungs = 64
)

// add smooths in what was watched until at; size 0 is an unknown size, and
// counts a play as one whole title.
func (p Popularity) add(watched watched, size uint64, at time.Time, halfLife time.Duration) Popularity {
	age := max(0, at.Sub(p.At))
	rungs := make(map[string]float64, len(p.Rungs))
	maps.Copy(rungs, p.Rungs)
	if !p.At.IsZero() && halfLife > 0 {
		lives := age.Seconds() / halfLife.Seconds()
		p.Score *= math.Exp2(-lives)
		p.Slow *= math.Exp2(-lives / slower)
		for rung := range rungs {
			rungs[rung] *= math.Exp2(-lives)
		}
	}
	streamed := float64(watched.plays)
	if size > 0 {
		streamed = float64(watched.bytes) / float64(size)
	}
	p.Score += streamed
	p.Slow += streamed
	for rung, bytes := range watched.rungs {
		if _, known := rungs[rung]; known || len(rungs) < maxRungs {
			rungs[rung] += float64(bytes)
		}
	}
	p.Rungs = nil
	if len(rungs) > 0 {
		p.Rungs = rungs
	}
	p.Forecast = p.Score
	if p.Slow > 0 { // at a constant rate Slow is slower × Score
		p.Forecast *= min(max(slower*p.Score/p.Slow, 1/maxTrend), maxTrend)
	}
	p.Bytes += watched.bytes
	p.Plays += watched.plays
	p.At = at.UTC()
	return p
}

// watched is what has been gathered of a title and not yet written.
type watched struct {
	bytes, plays uint64
	rungs        map[string]uint64 // bytes by rung
}

// and returns the sum of two.
func (w watched) and(o watched) watched {
	sum := watched{bytes: w.bytes + o.bytes, plays: w.plays + o.plays, rungs: w.rungs}
	if len(o.rungs) > 0 {
		sum.rungs = make(map[string]uint64, len(w.rungs)+len(o.rungs))
		maps.Copy(sum.rungs, w.rungs)
		for rung, n := range o.rungs {
			if _, known := sum.rungs[rung]; known || len(sum.rungs) < maxRungs {
				sum.rungs[rung] += n
			}
		}
	}
	return sum
}

// maxTitles bounds the titles gathered between two writes, and the sizes known.
const maxTitles = 10_000

// popularity gathers what is watched and writes it to kv.Popularity at
// intervals: a write per report would serialise the region on its most popular
// title. Safe for concurrent use; flush is called by one goroutine.
type popularity struct {
	d    Deps
	save *resilience.Command[struct{}]
	size *resilience.Command[uint64]

	mu      sync.Mutex
	pending map[string]watched
	sizes   map[string]uint64
}

func newPopularity(d Deps, g *resilience.Group) *popularity {
	o := resilience.Options{Group: "kv", Timeout: d.Timing.RPCTimeout.D(), MaxConcurrent: maxConcurrent}
	return &popularity{
		d: d, pending: make(map[string]watched), sizes: make(map[string]uint64),
		save: resilience.New[struct{}](g, "PutPopularity", o),
		size: resilience.New[uint64](g, "GetTitleSize", o),
	}
}

func (p *popularity) put(_ context.Context, r record) (bool, error) {
	e := r.playback
	var w watched
	w.bytes = e.Bytes
	if e.Kind == "start" {
		w.plays = 1
	}
	if e.Rung != "" && e.Bytes > 0 {
		w.rungs = map[string]uint64{e.Rung: e.Bytes}
	}
	if e.Title == "" || w.bytes == 0 && w.plays == 0 {
		return false, nil
	}
	return true, p.gather(e.Title, w)
}

func (p *popularity) gather(title string, w watched) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	have, ok := p.pending[title]
	if !ok && len(p.pending) >= maxTitles {
		return services.Errorf(services.Exhausted, "popularity: %d titles wait to be written", maxTitles)
	}
	p.pending[title] = have.and(w)
	return nil
}

// resize takes a title's size from its publication.
func (p *popularity) resize(_ context.Context, r record) (bool, error) {
	if r.title.Title == "" || r.title.Bytes == 0 {
		return false, nil
	}
	p.know(r.title.Title, r.title.Bytes)
	return true, nil
}

func (p *popularity) know(title string, size uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sizes) >= maxTitles {
		clear(p.sizes) // they are read again from the assets
	}
	p.sizes[title] = size
}

// flush writes what was gathered; what could not be written is gathered again.
func (p *popularity) flush(ctx context.Context, now time.Time) error {
	p.mu.Lock()
	batch := p.pending
	p.pending = make(map[string]watched, len(batch))
	p.mu.Unlock()
	var errs []error
	for title, w := range batch {
		_, err := p.save.Do(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, p.write(ctx, title, w, now) })
		if err != nil {
			errs = append(errs, err, p.gather(title, w))
		}
	}
	return errors.Join(errs...)
}

// write reads, adds and writes under the condition that nobody wrote in
// between: another router of the region may do the same.
func (p *popularity) write(ctx context.Context, title string, w watched, now time.Time) error {
	size, err := p.sizeOf(ctx, title)
	if err != nil {
		return err
	}
	for {
		it, err := p.d.KV.Get(ctx, kv.Popularity, p.d.Region, title)
		cond := kv.Condition{Sort: title, Equals: it.Value}
		switch {
		case services.KindOf(err) == services.NotFound:
			cond = kv.Condition{Sort: title, Absent: true}
		case err != nil:
			return err
		}
		var have Popularity
		if len(it.Value) > 0 {
			if err := json.Unmarshal(it.Value, &have); err != nil {
				p.d.Tel.Log.WarnContext(ctx, "popularity does not decode, counting anew", "title", title, "error", err)
				have = Popularity{}
			}
		}
		value, err := json.Marshal(have.add(w, size, now, p.d.Timing.FillWindow.D()))
		if err != nil {
			return services.Errorf(services.Internal, "popularity: %v", err)
		}
		if bytes.Equal(value, it.Value) {
			return nil
		}
		err = p.d.KV.PutIf(ctx, kv.Popularity, p.d.Region, cond, kv.Item{Sort: title, Value: value})
		if services.KindOf(err) != services.Conflict {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// sizeOf is the size of all files of a title, 0 when it is not published.
func (p *popularity) sizeOf(ctx context.Context, title string) (uint64, error) {
	p.mu.Lock()
	size, ok := p.sizes[title]
	p.mu.Unlock()
	if ok {
		return size, nil
	}
	size, err := p.size.Do(ctx, func(ctx context.Context) (uint64, error) {
		it, err := p.d.KV.Get(ctx, kv.Assets, "assets", title)
		if err != nil {
			return 0, err
		}
		var asset cachecontrolpb.Asset
		if err := proto.Unmarshal(it.Value, &asset); err != nil {
			return 0, services.Errorf(services.Internal, "asset of %s: %v", title, err)
		}
		var sum uint64
		for _, f := range asset.GetFiles() {
			sum += f.GetSize()
		}
		return sum, nil
	})
	switch {
	case services.KindOf(err) == services.NotFound:
		return 0, nil
	case err != nil:
		return 0, err
	}
	p.know(title, size)
	return size, nil
}
