package cachecontrol

import (
	"context"
	"hash/maphash"
	"maps"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/kv"
)

const (
	// assetsPartition and appliancesPartition are where the store holds them.
	assetsPartition     = "assets"
	appliancesPartition = "appliances"
	// persistGap bounds writes to 20 a second per appliance.
	persistGap = 50 * time.Millisecond
	// persistGather is how long a write waits for other appliances' reports:
	// all report on the same beat, and one write of all of them costs the store,
	// and every region it replicates to, as much as one of the first.
	persistGather = 20 * time.Millisecond
	// firstBackoff is the first wait after a failure of the store.
	firstBackoff = 10 * time.Millisecond
)

// hash tells whether the store's copy of something changed. It never leaves
// the process.
func (s *Server) hash(value []byte) uint64 { return maphash.Bytes(s.seed, value) }

// syncLoop reads the store at once, again and again until it answers, and then
// every CacheControlSync.
func (s *Server) syncLoop(ctx context.Context) error {
	wait := firstBackoff
	for round := 0; ; round++ {
		err := s.sync(ctx)
		if err == nil && round%measureEvery == 0 {
			err = s.measure(ctx)
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			s.metrics.syncFailures.Inc()
			s.d.Tel.Log.Debug("cannot read the store", "error", err, "again_in", wait)
			if !sleep(ctx, wait) {
				return nil
			}
			wait = min(2*wait, s.d.Timing.CacheControlSync.D())
			continue
		}
		wait = firstBackoff
		if !sleep(ctx, s.d.Timing.CacheControlSync.D()) {
			return nil
		}
	}
}

// sleep waits and says whether ctx still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// stored is what one sync reads.
type stored struct{ rules, assets, states []kv.Item }

// readStore reads all of it at once: three requests that leave in one packet
// wake the store, and this process, hardly more often than one does.
func (s *Server) readStore(ctx context.Context) (stored, error) {
	var r stored
	g, ctx := errgroup.WithContext(ctx)
	read := func(to *[]kv.Item, ns kv.Namespace, partition string) {
		g.Go(func() (err error) {
			*to, err = s.scan(ctx, ns, partition)
			return err
		})
	}
	read(&r.rules, kv.FillRules, rulesPartition)
	read(&r.assets, kv.Assets, assetsPartition)
	read(&r.states, kv.Appliances, appliancesPartition)
	return r, g.Wait()
}

// sync reads the store and takes rules, assets and appliances from it. An item
// that cannot be read is skipped and counted, so that one does not hide the
// others.
func (s *Server) sync(ctx context.Context) error {
	read, err := s.readStore(ctx)
	if err != nil {
		return err
	}
	// Rules first: a cache control that has just started must not fill what is
	// paused.
	if err := s.syncRules(ctx, read.rules); err != nil {
		return err
	}
	var repair []kv.Item
	var untold []*pb.Asset
	s.update(func(time.Time) { repair, untold = s.mergeAssets(read.assets) })
	for _, a := range untold {
		// The region was cut off when another one published it. Copies that
		// are not dropped now run out by themselves: no failure.
		if err := s.tell(ctx, a); err != nil {
			s.d.Tel.Log.Warn("cannot tell of a title another region published", "title", a.GetTitleId(), "error", err)
		}
	}
	if len(repair) > 0 {
		// Two regions published versions of one title, and the older write
		// won by its clock.
		if err := s.put(ctx, kv.Assets, assetsPartition, repair...); err != nil {
			return err
		}
	}
	s.update(func(now time.Time) { s.mergeAppliances(read.states, now) })
	s.readWhole()
	return nil
}

func (s *Server) scan(ctx context.Context, ns kv.Namespace, partition string) ([]kv.Item, error) {
	var all []kv.Item
	for page := ""; ; {
		call, cancel := s.rpcContext(ctx)
		items, next, err := s.d.KV.Query(call, ns, partition, kv.Range{Page: page})
		cancel()
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if next == "" {
			return all, nil
		}
		page = next
	}
}

func (s *Server) put(ctx context.Context, ns kv.Namespace, partition string, items ...kv.Item) error {
	call, cancel := s.rpcContext(ctx)
	defer cancel()
	return s.d.KV.Put(call, ns, partition, items...)
}

// mergeAssets takes newer versions from the store. It returns the items that
// are newer here, and the assets whose publication nobody has told here; what
// the store holds at the start was told in its time. Called with the lock held.
func (s *Server) mergeAssets(items []kv.Item) (repair []kv.Item, untold []*pb.Asset) {
	for _, it := range items {
		h := s.hash(it.Value)
		if s.seenAssets[it.Sort] == h {
			continue
		}
		a := &pb.Asset{}
		if err := proto.Unmarshal(it.Value, a); err != nil || checkAsset(a) != nil {
			s.metrics.unreadable.Inc()
			s.d.Tel.Log.Error("an asset in the store is unreadable", "title", it.Sort, "error", err)
			continue
		}
		known := s.planner.cat.assets[a.GetTitleId()]
		if known.GetVersion() > a.GetVersion() {
			repair = append(repair, assetItem(known))
			continue
		}
		s.seenAssets[it.Sort] = h
		if known == nil || !proto.Equal(known, a) {
			s.planner.setAsset(a)
			s.show(a)
		}
		if s.told[it.Sort] < a.GetVersion() {
			s.told[it.Sort] = a.GetVersion()
			if s.synced {
				untold = append(untold, a)
			}
		}
	}
	s.synced = true
	return repair, untold
}

// mergeAppliances takes the state of appliances that are connected elsewhere.
// Called with the lock held.
func (s *Server) mergeAppliances(items []kv.Item, now time.Time) {
	stored := make(map[string]bool, len(items))
	for _, it := range items {
		stored[it.Sort] = true
		a := s.appliances[it.Sort]
		h := s.hash(it.Value)
		if a != nil && (a.session != nil || a.seen == h) {
			continue
		}
		st := &pb.ApplianceState{}
		if err := proto.Unmarshal(it.Value, st); err != nil || checkHello(st.GetHello()) != nil || st.GetHello().GetAppliance() != it.Sort {
			s.metrics.unreadable.Inc()
			s.d.Tel.Log.Error("an appliance in the store is unreadable", "appliance", it.Sort, "error", err)
			continue
		}
		if a != nil && st.GetCounter() <= a.counter {
			continue
		}
		if last, gone := s.departed[it.Sort]; gone && st.GetCounter() <= last {
			continue
		}
		delete(s.departed, it.Sort)
		if a == nil {
			a = &appliance{id: it.Sort}
			s.appliances[a.id] = a
		}
		a.adopt(st, now)
		a.seen = h
		s.notify(applianceKey(a.id))
		s.planner.setNode(a.info(), a.held())
	}
	maps.DeleteFunc(s.departed, func(id string, _ uint64) bool { return !stored[id] })
}

// markDirty queues an appliance's state to be written. Called with the lock
// held.
func (s *Server) markDirty(id string) {
	s.dirty[id] = struct{}{}
	select {
	case s.dirtyNote <- struct{}{}:
	default:
	}
}

// persistLoop writes the states of appliances connected here, changed ones
// together: persistGather after the first, the next not before persistGap.
func (s *Server) persistLoop(ctx context.Context) error {
	wait := firstBackoff
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.dirtyNote:
		}
		if !sleep(ctx, persistGather) {
			return nil
		}
		items := s.takeDirty()
		if len(items) == 0 {
			continue
		}
		pause := persistGap
		if err := s.put(ctx, kv.Appliances, appliancesPartition, items...); err != nil {
			s.metrics.syncFailures.Inc()
			s.d.Tel.Log.Debug("cannot write to the store", "error", err, "again_in", wait)
			s.mu.Lock()
			for _, it := range items {
				if a := s.appliances[it.Sort]; a != nil && a.session != nil {
					s.markDirty(it.Sort)
				}
			}
			s.mu.Unlock()
			pause = max(wait, persistGap)
			wait = min(2*wait, s.d.Timing.CacheControlSync.D())
		} else {
			s.metrics.persisted.Add(float64(len(items)))
			wait = firstBackoff
		}
		if !sleep(ctx, pause) {
			return nil
		}
	}
}

func (s *Server) takeDirty() []kv.Item {
	s.mu.Lock()
	views := make(map[string]*pb.ApplianceState, len(s.dirty))
	for id := range s.dirty {
		if a := s.appliances[id]; a != nil && a.session != nil {
			views[id] = a.view()
		}
	}
	clear(s.dirty)
	s.mu.Unlock()
	items := make([]kv.Item, 0, len(views))
	for id, v := range views {
		value, err := proto.MarshalOptions{Deterministic: true}.Marshal(v)
		if err != nil { // only for strings that are not UTF-8, which gRPC refused
			s.d.Tel.Log.Error("cannot encode an appliance's state", "appliance", id, "error", err)
			continue
		}
		items = append(items, kv.Item{Sort: id, Value: value, TTL: 10 * s.d.Timing.ReportExpiry.D()})
	}
	return items
}
