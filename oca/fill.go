package oca

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

const (
	// maxFills is how many files are fetched at once.
	maxFills = 4
	// maxOrders bounds the orders that wait. Cache control gives maxFills at
	// a time; more come only after it was replaced.
	maxOrders = 64
	// maxRounds is how often all sources of an order are tried, with waits
	// between that double from firstBackoff: a good second in all.
	maxRounds = 8
)

// filler carries out fill orders. They outlive the stream they came by. Safe
// for concurrent use.
type filler struct {
	s       *Server
	client  *http.Client
	orders  chan *pb.FillOrder
	buffers sync.Pool

	mu     sync.Mutex
	active map[ref]struct{}
}

func newFiller(s *Server) *filler {
	return &filler{
		s: s, orders: make(chan *pb.FillOrder, maxOrders), active: map[ref]struct{}{},
		buffers: sync.Pool{New: func() any { b := make([]byte, chunk); return &b }},
		client: &http.Client{Transport: &http.Transport{
			DialContext: s.d.Dial, DisableCompression: true, MaxIdleConnsPerHost: maxFills,
			IdleConnTimeout: s.d.Timing.ReportExpiry.D(), ResponseHeaderTimeout: headTimeouts * s.d.Timing.RPCTimeout.D(),
		}},
	}
}

// order takes an order, unless the file is being fetched already.
func (f *filler) order(o *pb.FillOrder) {
	name := ref{o.GetTitleId(), o.GetVersion(), o.GetFile().GetPath()}
	f.mu.Lock()
	_, dup := f.active[name]
	f.active[name] = struct{}{}
	f.mu.Unlock()
	if dup {
		return
	}
	select {
	case f.orders <- o:
	default:
		f.finish(name)
		f.failed(name, o, "", services.Errorf(services.Exhausted, "%d orders wait already", maxOrders))
	}
}

func (f *filler) finish(name ref) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.active, name)
}

// run works on orders until ctx ends.
func (f *filler) run(ctx context.Context) error {
	defer f.client.CloseIdleConnections()
	var group errgroup.Group
	group.SetLimit(maxFills)
	for {
		select {
		case <-ctx.Done():
			return group.Wait()
		case o := <-f.orders:
			group.Go(func() error {
				f.fill(ctx, o)
				return nil
			})
		}
	}
}

// fill fetches and stores one file; the store tells of success.
func (f *filler) fill(ctx context.Context, o *pb.FillOrder) {
	name := ref{o.GetTitleId(), o.GetVersion(), o.GetFile().GetPath()}
	// No longer active before the answer goes out, so that an order that
	// follows the answer is not taken for the same one.
	err := func() error {
		defer f.finish(name)
		return f.fetchFile(ctx, name, o)
	}()
	if err == nil || ctx.Err() != nil {
		return
	}
	f.failed(name, o, "", err)
}

// failed reports a failed source (url) or, without one, a failed order.
func (f *filler) failed(name ref, o *pb.FillOrder, url string, err error) {
	f.s.metrics.fillFailures.Inc()
	f.s.d.Tel.Log.Warn("fill failed", "file", name.String(), "url", url, "error", err)
	if services.ReasonOf(err) == reasonDisk {
		f.s.diskFailed(err)
	}
	f.s.outbox.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_FillFailed{FillFailed: &pb.FillFailed{
		File: name.held(o.GetFile().GetSize()), Url: url, Error: err.Error(),
	}}})
}

// fetchFile tries the sources in order, round after round, until the file is
// stored or every source has proved useless.
func (f *filler) fetchFile(ctx context.Context, name ref, o *pb.FillOrder) error {
	if len(o.GetFile().GetSha256()) != len(sum{}) || name.check() != nil {
		return services.Errorf(services.Invalid, "%s: the order has no valid name or checksum", name)
	}
	chunks, err := chunkingOf(o.GetFile())
	if err != nil {
		return err
	}
	w, err := f.s.store.receive(name, sum(o.GetFile().GetSha256()), o.GetFile().GetSize(), chunks)
	if w == nil {
		return err
	}
	defer func() {
		if err := w.discard(); err != nil {
			f.s.diskFailed(err)
		}
	}()
	a := &attempt{t: &transfer{f: f, w: w}, name: name, o: o, struck: map[int]bool{}, told: map[int]bool{}}
	last := error(services.Errorf(services.Unavailable, "%s: the order names no source", name))
	for round, wait := 0, firstBackoff; round < maxRounds && len(a.struck) < len(o.GetSources()); round++ {
		if round > 0 && !sleep(ctx, wait) {
			return ctx.Err()
		}
		done, err := a.round(ctx)
		if services.ReasonOf(err) == reasonDisk {
			w.partial = false // what came takes room that is needed
		}
		if done || ctx.Err() != nil || services.ReasonOf(err) == reasonDisk {
			return err
		}
		last = cmp.Or(err, last)
		if round > 0 {
			wait *= 2
		}
	}
	return last
}

// attempt is one order being carried out.
type attempt struct {
	t    *transfer
	name ref
	o    *pb.FillOrder

	mu     sync.Mutex
	struck map[int]bool // sources that proved useless, by their place in the order
	told   map[int]bool // those reported
}

// round tries each source once; several of one kind at the same time if the
// file is cut into chunks.
func (a *attempt) round(ctx context.Context) (done bool, last error) {
	sources := a.o.GetSources()
	for i := 0; i < len(sources); {
		end := i + 1
		for end < len(sources) && sources[end].GetSource() == sources[i].GetSource() {
			end++
		}
		var err error
		// Object stores one after another: the nearest has all of it.
		if alike := a.usable(i, end); len(alike) > 1 && len(a.t.w.chunks.sums) > 1 && sources[i].GetSource() != pb.Source_SOURCE_CACHE {
			err = a.gather(ctx, alike)
			i = end
		} else if a.struck[i] {
			i++
			continue
		} else {
			err = a.failed(ctx, i, a.t.from(ctx, sources[i]))
			i++
		}
		if err == nil || ctx.Err() != nil || services.ReasonOf(err) == reasonDisk {
			return err == nil, err
		}
		last = err
	}
	return false, last
}

// usable lists the sources between two places that are not struck.
func (a *attempt) usable(from, to int) (out []int) {
	for i := from; i < to; i++ {
		if !a.struck[i] {
			out = append(out, i)
		}
	}
	return out
}

// failed notes how a source did: one that is of no use is struck, and the first
// failure of another appliance is told, so that it looks at its copy and others
// are sent elsewhere.
func (a *attempt) failed(ctx context.Context, i int, err error) error {
	if err == nil || services.ReasonOf(err) == reasonDisk || ctx.Err() != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if errors.Is(err, errUseless) || errors.Is(err, errChecksum) {
		a.struck[i] = true
	}
	src := a.o.GetSources()[i]
	if src.GetAppliance() != "" && !a.told[i] {
		a.told[i] = true
		a.t.f.failed(a.name, a.o, src.GetUrl(), err)
	}
	return err
}
