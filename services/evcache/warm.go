package evcache

import (
	"context"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/services"
)

const (
	// warmBatch is how many items are copied in one go.
	warmBatch = 64
	// defaultWarmWorkers copy at once.
	defaultWarmWorkers = 4
	// warmReport is how often progress is told at most.
	warmReport = 100 * time.Millisecond
)

// WarmOptions say what to warm.
type WarmOptions struct {
	// Zone to fill; From is the one to copy, "" for the first other one that is
	// read.
	Zone, From string
	// Workers copy at once; 0 for 4. PerSecond bounds the items copied in a
	// second; 0: no bound.
	Workers, PerSecond int
	// Progress hears how far it is, from one goroutine at a time; may be nil.
	Progress func(Warmed)
}

// Warmed is how far a warming is.
type Warmed struct {
	Zone string `json:"zone"`
	From string `json:"from"`
	// Items and Bytes that From had at the start, as it counted them.
	Items int64 `json:"items"`
	Bytes int64 `json:"bytes"`
	// Copied items and their bytes; Kept were there already, as a write that
	// came meanwhile is newer; Gone ended before they were copied.
	Copied      int64 `json:"copied"`
	CopiedBytes int64 `json:"copied_bytes"`
	Kept        int64 `json:"kept"`
	Gone        int64 `json:"gone"`
	// Skipped items have keys with blanks that are too long for the text protocol.
	Skipped int64 `json:"skipped"`
}

// Percent of the items that are done, 0 to 100.
func (w Warmed) Percent() float64 {
	if w.Items == 0 {
		return 100
	}
	return min(100, 100*float64(w.Copied+w.Kept+w.Gone+w.Skipped)/float64(w.Items))
}

// warming is a warming under way.
type warming struct {
	c        *Client
	from, to *zone
	o        WarmOptions

	mu   sync.Mutex
	done Warmed
	told time.Time
	// next is when the next item may be copied, with a bound by second.
	next time.Time
}

// warmRemedy is for a server of either zone that does not answer.
const warmRemedy = "see which servers answer: flix cache status; then warm from another zone, or when it is back"

// Warm fills a zone from a sibling: a new one, or one with a server that was
// replaced. Items go as they lie, with what remains of their time to live, and
// only where the zone has none, so that it may be written meanwhile; switch it
// to WriteOnly to keep readers from missing. Memory is bounded by the workers,
// not by the zone. On an error the progress so far is returned, too; another
// call begins anew and finds what was copied.
func (c *Client) Warm(ctx context.Context, o WarmOptions) (Warmed, error) {
	w := &warming{c: c, o: o}
	var err error
	if w.to, err = c.zone(o.Zone); err != nil {
		return Warmed{}, services.Wrap("evcache.Warm", err)
	}
	if w.from, err = c.sibling(o.Zone, o.From); err != nil {
		return Warmed{}, services.Wrap("evcache.Warm", err)
	}
	w.done.Zone, w.done.From = w.to.name, w.from.name
	for _, p := range w.from.peers {
		sctx, cancel := context.WithTimeout(ctx, c.cfg.Timeouts.Write)
		s, err := Stats(sctx, c.cfg.Dial, p.addr)
		cancel()
		if err != nil {
			return w.done, warmError(&services.Error{Kind: services.Unavailable, Msg: "cache server " + p.called, Err: err})
		}
		items, ierr := strconv.ParseInt(s["curr_items"], 10, 64)
		bytes, berr := strconv.ParseInt(s["bytes"], 10, 64)
		if ierr != nil || berr != nil {
			return w.done, warmError(services.Errorf(services.Unavailable, "cache server %s does not say what it holds", p.called))
		}
		w.done.Items += items
		w.done.Bytes += bytes
	}
	w.tell(true)
	err = w.run(ctx)
	w.tell(true)
	return w.done, warmError(err)
}

// warmError says what to do where a server does not answer and nothing more is
// known.
func warmError(err error) error {
	if services.KindOf(err) == services.Unavailable && services.ProblemOf(err).Remedy == "" {
		return &services.Error{Op: "evcache.Warm", Kind: services.Unavailable, Err: err, Remedy: warmRemedy}
	}
	return services.Wrap("evcache.Warm", err)
}

// sibling returns the zone to copy from.
func (c *Client) sibling(of, name string) (*zone, error) {
	if name == of && name != "" {
		return nil, services.Errorf(services.Invalid, "zone %s cannot be filled from itself", name).WithRemedy("name another zone")
	}
	if name != "" {
		return c.zone(name)
	}
	f, err := c.fleet()
	if err != nil {
		return nil, err
	}
	for _, z := range f.reads {
		if z.name != of {
			return z, nil
		}
	}
	return nil, services.Errorf(services.Unavailable, "no other zone is read: nothing to copy from").WithRemedy("start a second zone, or switch one to read-write")
}

func (w *warming) run(ctx context.Context) error {
	workers := w.o.Workers
	if workers <= 0 {
		workers = defaultWarmWorkers
	}
	for _, p := range w.from.peers {
		batches := make(chan []string, workers)
		g, gctx := errgroup.WithContext(ctx)
		for range workers {
			g.Go(func() error {
				for keys := range batches {
					if err := w.copy(gctx, p, keys); err != nil {
						return err
					}
				}
				return nil
			})
		}
		g.Go(func() error {
			defer close(batches)
			keys := make([]string, 0, warmBatch)
			send := func() error {
				select {
				case batches <- keys:
					keys = make([]string, 0, warmBatch)
					return nil
				case <-gctx.Done():
					return gctx.Err()
				}
			}
			err := w.c.dump(gctx, p, func(d dumped) error {
				if !copyable(d.key) {
					w.skip()
					return nil
				}
				if keys = append(keys, d.key); len(keys) < warmBatch {
					return nil
				}
				return send()
			})
			if err == nil && len(keys) > 0 {
				err = send()
			}
			return err
		})
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// copy copies items of one server to wherever their keys belong in the zone.
func (w *warming) copy(ctx context.Context, p *peer, keys []string) error {
	if err := w.pace(ctx, len(keys)); err != nil {
		return err
	}
	cs := make([]command, len(keys))
	for i, k := range keys {
		cs[i] = metaCommand([]byte(k))
	}
	t := w.c.cfg.Timeouts
	if err := p.do(ctx, t.Write, cs); err != nil {
		return err
	}
	now := time.Now()
	b := newBatch(w.to)
	sizes := make([]int64, 0, len(keys))
	gone := int64(0)
	for i, k := range keys {
		exp, ok := expiryOf(cs[i].ttl, now)
		if cs[i].err != nil || !ok {
			gone++
			continue
		}
		b.add([]byte(k), copyCommand([]byte(k), cs[i].out, exp))
		sizes = append(sizes, int64(len(cs[i].out.value)))
	}
	if err := b.do(ctx, t.Write); err != nil {
		return err
	}
	w.mu.Lock()
	w.done.Gone += gone
	for i, size := range sizes {
		if b.at(i).err != nil { // there is one already, or no room
			w.done.Kept++
			continue
		}
		w.done.Copied++
		w.done.CopiedBytes += size
	}
	w.mu.Unlock()
	w.tell(false)
	return nil
}

func (w *warming) skip() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done.Skipped++
}

// pace waits until n more items may be copied.
func (w *warming) pace(ctx context.Context, n int) error {
	if w.o.PerSecond <= 0 {
		return ctx.Err()
	}
	w.mu.Lock()
	at := w.next
	if now := time.Now(); at.Before(now) {
		at = now
	}
	w.next = at.Add(time.Duration(n) * time.Second / time.Duration(w.o.PerSecond))
	w.mu.Unlock()
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (w *warming) tell(always bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.o.Progress == nil || !always && time.Since(w.told) < warmReport {
		return
	}
	w.told = time.Now()
	w.o.Progress(w.done)
}
