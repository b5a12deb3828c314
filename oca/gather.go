package oca

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
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
	if w.offset%w.chunks.bytes != 0 && !w.complete() { // the rest of an attempt of another kind
		if err := a.t.restart(); err != nil {
			return err
		}
	}
	for i := range w.chunks.sums {
		if from, _ := w.chunks.span(i, w.want.size); !w.whole[i] && from >= w.offset {
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
		return cmpErr(errors.Join(errs...), ctx.Err())
	}
	err := w.commit(a.o.GetSources()[g.most(sources)])
	if errors.Is(err, errChecksum) {
		// Every chunk is as published and the whole is not: no source is to blame.
		return errors.Join(fmt.Errorf("%w: its chunks are right and the whole is not", errUseless), a.t.restart())
	}
	return err
}

func cmpErr(err, otherwise error) error {
	switch {
	case err != nil:
		return err
	case otherwise != nil:
		return otherwise
	}
	return io.ErrUnexpectedEOF
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
	from, to := w.chunks.span(chunk, w.want.size)
	cw := &chunkWriter{w: w, at: from, to: to, digest: sha256.New()}
	for cw.at < to {
		before := cw.at
		err := g.get(ctx, src, cw)
		if err == nil && cw.at < to {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && (cw.at == before || cw.at < to && (errors.Is(err, errUseless) || services.ReasonOf(err) == reasonDisk || ctx.Err() != nil)) {
			return err
		}
	}
	if sum(cw.digest.Sum(nil)) != w.chunks.sums[chunk] {
		return fmt.Errorf("chunk %d: %w", chunk, errChecksum)
	}
	return nil
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

// chunkWriter puts a chunk's bytes in their place and hashes them.
type chunkWriter struct {
	w      *receiver
	at, to uint64
	digest hash.Hash
}

// Write implements io.Writer; more than the chunk's bytes is an error.
func (c *chunkWriter) Write(b []byte) (int, error) {
	if uint64(len(b)) > c.to-c.at {
		return 0, fmt.Errorf("%w: more bytes came than were asked for", errUseless)
	}
	n, err := 0, c.w.s.fault().write()
	if err == nil {
		n, err = c.w.f.WriteAt(b, int64(c.at))
	}
	c.digest.Write(b[:n])
	c.at += uint64(n)
	if err != nil {
		return n, c.w.diskError(err)
	}
	return n, nil
}
