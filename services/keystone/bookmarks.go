package keystone

import (
	"context"
	"encoding/json"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/resilience"
)

// Bookmark is the value of an item of kv.Bookmarks: where a member left off,
// and when.
type Bookmark struct {
	PositionS float64   `json:"position_s"`
	At        time.Time `json:"at"`
}

// bookmarks writes positions to kv.Bookmarks. The later event wins, by the
// event's own time: partitions are read side by side, and a household may play
// one title on two screens.
type bookmarks struct {
	kv   KV
	save *resilience.Command[bool]
}

func newBookmarks(d Deps, g *resilience.Group) *bookmarks {
	return &bookmarks{kv: d.KV, save: resilience.New[bool](g, "PutBookmark", resilience.Options{Group: "kv", Timeout: d.Timing.RPCTimeout.D(), MaxConcurrent: maxConcurrent})}
}

func (b *bookmarks) put(ctx context.Context, r record) (bool, error) {
	e := r.playback
	if e.Kind != "progress" && e.Kind != "stop" {
		return false, nil
	}
	if e.Member == "" || e.Title == "" {
		return false, services.Errorf(services.Invalid, "a position without member or title")
	}
	value, err := json.Marshal(Bookmark{PositionS: e.PositionS, At: e.At.UTC()})
	if err != nil {
		return false, services.Errorf(services.Invalid, "bookmark: %v", err)
	}
	return b.save.Do(ctx, func(ctx context.Context) (bool, error) {
		it, err := b.kv.Get(ctx, kv.Bookmarks, e.Member, e.Title)
		if err != nil && services.KindOf(err) != services.NotFound {
			return false, err
		}
		var have Bookmark
		if err == nil && json.Unmarshal(it.Value, &have) == nil && have.At.After(e.At) {
			return false, nil
		}
		return true, b.kv.Put(ctx, kv.Bookmarks, e.Member, kv.Item{Sort: e.Title, Value: value})
	})
}
