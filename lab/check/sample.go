package check

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/flix-lab/flix/lab/control"
)

// Reader reads as a client of one region does.
type Reader interface {
	// Get says whether a write is there.
	Get(ctx context.Context, kind Kind, key string) (bool, error)
	// All returns those of the keys that are there, with their values.
	All(ctx context.Context, kind Kind, keys []string) (map[string]string, error)
}

const (
	// sampleEvery is how often a write is followed to the other regions.
	sampleEvery = 100 * time.Millisecond
	// firstLook and longestLook bound the pause between two looks for one.
	firstLook, longestLook = 5 * time.Millisecond, 50 * time.Millisecond
	// lookTime bounds one look: a region that is silent is asked again.
	lookTime = time.Second
)

// Sampler follows some of the writes of each kind into another region, and
// measures how long after its acknowledgement a client there reads it.
type Sampler struct {
	region string
	reader Reader
	follow map[Kind]*follower
}

// follower follows the writes of a kind, the oldest first.
type follower struct {
	kind Kind

	mu      sync.Mutex
	last    time.Time // of the newest sample
	waiting []Entry
	took    []time.Duration
	added   chan struct{} // has room for one: something waits
}

// NewSampler follows writes into a region that the reader reads.
func NewSampler(region string, r Reader) *Sampler {
	s := &Sampler{region: region, reader: r, follow: map[Kind]*follower{}}
	for _, k := range Kinds {
		s.follow[k] = &follower{kind: k, added: make(chan struct{}, 1)}
	}
	return s
}

// Acknowledged offers a write; one in a while is taken.
func (s *Sampler) Acknowledged(e Entry) {
	f := s.follow[e.Kind]
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.At.Sub(f.last) < sampleEvery {
		return
	}
	f.last = e.At
	f.waiting = append(f.waiting, e)
	select {
	case f.added <- struct{}{}:
	default:
	}
}

// Run follows writes until ctx ends, or until ended is closed and nothing waits
// any more.
func (s *Sampler) Run(ctx context.Context, ended <-chan struct{}) {
	var wg sync.WaitGroup
	for _, f := range s.follow {
		wg.Go(func() { f.run(ctx, ended, s.reader) })
	}
	wg.Wait()
}

func (f *follower) run(ctx context.Context, ended <-chan struct{}, r Reader) {
	for ctx.Err() == nil {
		f.mu.Lock()
		empty := len(f.waiting) == 0
		f.mu.Unlock()
		if !empty {
			f.await(ctx, r)
			continue
		}
		select {
		case <-f.added:
		case <-ctx.Done():
		case <-ended:
			select {
			case <-f.added: // the last one came just before the end
			default:
				return
			}
		}
	}
}

// await looks for the oldest write until it is there. Those behind it wait:
// what an outage holds up is measured in full for each.
func (f *follower) await(ctx context.Context, r Reader) {
	f.mu.Lock()
	e := f.waiting[0]
	f.mu.Unlock()
	for pause := firstLook; ctx.Err() == nil; pause = min(2*pause, longestLook) {
		one, cancel := context.WithTimeout(ctx, lookTime)
		there, err := r.Get(one, f.kind, e.Key)
		cancel()
		if err == nil && there {
			took := max(0, time.Since(e.At))
			f.mu.Lock()
			f.took, f.waiting = append(f.took, took), f.waiting[1:]
			f.mu.Unlock()
			return
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// Staleness is what was measured, one value per kind that was followed.
func (s *Sampler) Staleness() []control.CheckStaleness {
	var out []control.CheckStaleness
	for _, k := range Kinds {
		f := s.follow[k]
		f.mu.Lock()
		took := slices.Sorted(slices.Values(f.took))
		unseen := len(f.waiting)
		f.mu.Unlock()
		if len(took)+unseen == 0 {
			continue
		}
		out = append(out, control.CheckStaleness{
			Region: s.region, Kind: string(k), Samples: len(took), Unseen: unseen,
			P50MS: quantile(took, 0.5), P99MS: quantile(took, 0.99), MaxMS: quantile(took, 1),
		})
	}
	return out
}

// quantile of sorted durations by nearest rank, in milliseconds; 0 of none.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	k := max(0, int(math.Ceil(q*float64(len(sorted))))-1)
	return ms(sorted[k])
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
