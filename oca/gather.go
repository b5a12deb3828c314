package oca

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// maxGathered is from how many sources one file is fetched at once.
const maxGathered = 4

// gathering fetches the chunks of one file from several sources. Each source
// takes the next chunk when it has given one, so that a fast one gives more; a
// chunk is from one source and judged by its own checksum, so that the blame
// for a wrong one is never shared; and what a source that died did not give is
// fetched from the others.
type gathering struct {
	a *attempt

	mu     sync.Mutex
	idle   *sync.Cond
	queue  []int // chunks to fetch, in order
	flying int   // chunks being fetched
	given  map[int]uint64
	err    error // of the own disk: it ends everything
}

// gather fetches what is missing of the file from some sources at once, and
// stores it when all of it is there.
func (a *attempt) gather(ctx context.Context, sources []int) error {
	g := &gathering{a: a, given: map[int]uint64{}}
	g.idle = sync.NewCond(&g.mu)
	w := a.t.w
	for i, there := range w.whole {
		if !there {
			g.queue = append(g.queue, i)
		}
	}
	stop := context.AfterFunc(ctx, g.wake)
	defer stop()
	errs := make([]error, min(len(sources), maxGathered))
	var workers sync.WaitGroup
	next := make(chan int, len(sources))
	for _, i := range sources {
		next <- i
	}
	close(next)
	for k := range errs {
		workers.Go(func() { // takes another source when its own has failed
			for i := range next {
				err := a.failed(ctx, i, g.work(ctx, i))
				if err == nil {
					return
				}
				errs[k] = errors.Join(errs[k], err)
			}
		})
	}
	workers.Wait()
	switch {
	case g.err != nil:
		return g.err
	case !w.complete():
		return cmp.Or(errors.Join(errs...), ctx.Err(), io.ErrUnexpectedEOF)
	}
	err := a.t.commit(a.o.GetSources()[g.most(sources)])
	if errors.Is(err, errUseless) { // not theirs to mend, however often they are asked
		for _, i := range sources {
			a.struck[i] = true
		}
	}
	return err
}

// most is the source that gave most.
func (g *gathering) most(sources []int) int {
	best := sources[0]
	for _, i := range sources {
		if g.given[i] > g.given[best] {
			best = i
		}
	}
	return best
}

func (g *gathering) wake() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.idle.Broadcast()
}

// take returns the next chunk; false when there is nothing left to fetch. While
// others fetch the last ones it waits, since one of them may die.
func (g *gathering) take(ctx context.Context) (chunk int, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.queue) == 0 && g.flying > 0 && g.err == nil && ctx.Err() == nil {
		g.idle.Wait()
	}
	if len(g.queue) == 0 || g.err != nil || ctx.Err() != nil {
		return 0, false
	}
	chunk, g.queue = g.queue[0], g.queue[1:]
	g.flying++
	return chunk, true
}

// put says how a chunk went; one that did not come is the next to be fetched.
func (g *gathering) put(source, chunk int, err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.idle.Broadcast()
	g.flying--
	w := g.a.t.w
	if err == nil {
		from, to := w.chunks.span(chunk, w.want.size)
		g.given[source] += to - from
		err = w.accept(chunk)
	} else {
		g.queue = append([]int{chunk}, g.queue...)
	}
	if services.ReasonOf(err) == reasonDisk {
		g.err = err
	}
	return err
}

// work fetches chunks from one source until none is left or it fails.
func (g *gathering) work(ctx context.Context, i int) error {
	src := g.a.o.GetSources()[i]
	for {
		chunk, ok := g.take(ctx)
		if !ok {
			return ctx.Err()
		}
		if err := g.put(i, chunk, g.fetch(ctx, src, chunk)); err != nil {
			return fmt.Errorf("%s: %w", sourceLabel(src), err)
		}
	}
}

// fetch gets one chunk. A connection that breaks is resumed from the same
// source, as long as each attempt gets further.
func (g *gathering) fetch(ctx context.Context, src *pb.FillSource, chunk int) error {
	w := g.a.t.w
	cw := w.chunk(chunk)
	for cw.at < cw.to {
		before := cw.at
		err := g.get(ctx, src, cw)
		if err == nil && cw.at < cw.to {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && (cw.at == before || cw.at < cw.to && (errors.Is(err, errUseless) || services.ReasonOf(err) == reasonDisk || ctx.Err() != nil)) {
			return err
		}
	}
	return cw.verify()
}

func (g *gathering) get(ctx context.Context, src *pb.FillSource, cw *chunkWriter) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := g.a.t.request(ctx, src, cw.at, cw.to)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK && (cw.at > 0 || cw.to < g.a.t.w.want.size) {
		return fmt.Errorf("%w: it knows no ranges", errUseless)
	}
	if resp.StatusCode != http.StatusOK {
		if err := g.a.t.acceptRange(resp, cw.at, cw.to); err != nil {
			return err
		}
	}
	return g.a.t.copy(ctx, cancel, cw, resp.Body, src.GetSource())
}
