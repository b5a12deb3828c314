package lab

import (
"context"
	"slices"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/discovery"
	"github.com/flix-lab/flix/services/play"
	"github.com/flix-lab/flix/services/playback"
	"github.com/flix-lab/flix/services/recommend"
)

func buildTranscode(u *unit) (services.Unit, error) {
	return blank{}, nil
}

// titleCacheKeys names every cached copy that a change of a title makes stale.
func titleCacheKeys(title string) []string {
	return slices.Concat(playback.CacheKeys(title), play.CacheKeys(title), discovery.CacheKeys(), recommend.CacheKeys())
}

type blank struct{}

func (blank) Serve(ctx context.Context) error { <-ctx.Done(); return nil }
