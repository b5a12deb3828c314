package keystone

import (
	"context"

	"github.com/flix-lab/flix/services/resilience"
)

// invalidation drops the copies of a title that was published, so that readers
// see it at once instead of after the copies' time to live.
type invalidation struct {
	cache Cache
	keys  func(title string) []string
	drop  *resilience.Command[struct{}]
}

func newInvalidation(d Deps, g *resilience.Group) *invalidation {
	return &invalidation{cache: d.Cache, keys: d.CacheKeys, drop: resilience.New[struct{}](g, "DropCopies", resilience.Options{Timeout: d.Timing.RPCTimeout.D(), MaxConcurrent: maxConcurrent})}
}

func (i *invalidation) put(ctx context.Context, r record) (bool, error) {
	if i.cache == nil || i.keys == nil {
		return false, nil
	}
	_, err := i.drop.Do(ctx, func(ctx context.Context) (struct{}, error) {
		for _, key := range i.keys(r.title.Title) {
			if err := i.cache.Delete(ctx, key); err != nil {
				return struct{}{}, err
			}
		}
		return struct{}{}, nil
	})
	return err == nil, err
}
