package keystone

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/flix-lab/flix/services/resilience"
)

// invalidation drops the copies of a title that was published, so that readers
// see it at once instead of after the copies' time to live.
//
// It drops them twice. The event runs ahead of what it tells of: the title's
// row is written after its files are announced, reaches other regions by
// replication, and a reader may have read the store just before and keep its
// copy just after. So the copies go a second time an RPC timeout later, with
// the next flush. That drop is not repeated by a redelivery; should it be lost
// with the instance, the copies run out by themselves. Safe for concurrent use;
// flush is called by one goroutine.
type invalidation struct {
	cache  Cache
	keys   func(title string) []string
	settle time.Duration
	drop   *resilience.Command[struct{}]

	mu    sync.Mutex
	again map[string]time.Time // when a title's copies were dropped first
}

func newInvalidation(d Deps, g *resilience.Group) *invalidation {
	return &invalidation{
		cache: d.Cache, keys: d.CacheKeys, settle: d.Timing.RPCTimeout.D(), again: map[string]time.Time{},
		drop: resilience.New[struct{}](g, "DropCopies", resilience.Options{Group: "evcache", Timeout: d.Timing.RPCTimeout.D(), MaxConcurrent: maxConcurrent}),
	}
}

func (i *invalidation) put(ctx context.Context, r record) (bool, error) {
	if i.cache == nil || i.keys == nil {
		return false, nil
	}
	if err := i.forget(ctx, r.title.Title); err != nil {
		return false, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, waits := i.again[r.title.Title]; waits || len(i.again) < maxTitles {
		i.again[r.title.Title] = time.Now()
	}
	return true, nil
}

// forget drops the copies of a title.
func (i *invalidation) forget(ctx context.Context, title string) error {
	_, err := i.drop.Do(ctx, func(ctx context.Context) (struct{}, error) {
		for _, key := range i.keys(title) {
			if err := i.cache.Delete(ctx, key); err != nil {
				return struct{}{}, err
			}
		}
		return struct{}{}, nil
	})
	return err
}

// flush drops for the second time what was dropped an RPC timeout before now,
// or at all if this is the last time. What fails waits for the next.
func (i *invalidation) flush(ctx context.Context, now time.Time, last bool) error {
	var errs []error
	for title, at := range i.due(now, last) {
		if err := i.forget(ctx, title); err != nil {
			errs = append(errs, err)
			continue
		}
		i.mu.Lock()
		if i.again[title].Equal(at) { // not published anew in between
			delete(i.again, title)
		}
		i.mu.Unlock()
	}
	return errors.Join(errs...)
}

func (i *invalidation) due(now time.Time, last bool) map[string]time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	due := make(map[string]time.Time)
	for title, at := range i.again {
		if last || now.Sub(at) >= i.settle {
			due[title] = at
		}
	}
	return due
}
