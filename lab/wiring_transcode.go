package lab

import (
	"context"
	"errors"
	"os/exec"
	"slices"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/discovery"
	"github.com/flix-lab/flix/services/play"
	"github.com/flix-lab/flix/services/playback"
	"github.com/flix-lab/flix/services/recommend"
	"github.com/flix-lab/flix/services/search"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/services/transcode"
	"github.com/flix-lab/flix/topology"
)

func buildTranscode(u *unit) (services.Unit, error) {
	db, store, cache, err := u.stores()
	if err != nil {
		return nil, err
	}
	s3, err := u.s3(u.spec.Region)
	if err != nil {
		return nil, err
	}
	prod, err := u.producer()
	if err != nil {
		return nil, err
	}
	conn, err := u.rpc(topology.RoleCacheControl)
	if err != nil {
		return nil, err
	}
	cc := cachecontrolpb.NewCacheControlClient(conn)
	index, err := u.index()
	if err != nil {
		return nil, err
	}
	return transcode.New(transcode.Deps{
		RPC: u.ls.TCP[topology.PortRPC], Region: u.spec.Region, Instance: u.spec.ID, Dir: u.spec.Dir,
		Objects: s3, KV: store, Events: prod, FFmpeg: findFFmpeg, Tel: u.tel, Timing: u.timing(),
		Publish: func(ctx context.Context, a *cachecontrolpb.Asset) error {
			_, err := cc.Publish(ctx, &cachecontrolpb.PublishRequest{Asset: a})
			return err
		},
		PutTitle: func(ctx context.Context, t sqldb.Title) error {
			if err := db.PutTitle(ctx, t); err != nil {
				return err
			}
			// A copy that is not dropped now runs out by itself: no failure.
			for _, key := range titleCacheKeys(string(t.ID)) {
				if err := cache.Delete(ctx, key); err != nil {
					u.tel.Log.Warn("dropping a cached copy", "key", key, "error", err)
				}
			}
			return nil
		},
		IndexTitle: func(ctx context.Context, d search.Doc) error { return index.Put(ctx, d) },
	})
}

// findFFmpeg looks for ffmpeg on the host's PATH.
func findFFmpeg() (string, error) {
	path, err := exec.LookPath("ffmpeg")
	if err != nil {
		return "", (&services.Error{Kind: services.Unavailable, Msg: "ffmpeg is not on PATH", Err: errors.Unwrap(err)}).WithReason(services.ReasonNoFFmpeg).WithRemedy("install it: apt-get install ffmpeg")
	}
	return path, nil
}

// titleCacheKeys names every cached copy that a change of a title makes stale.
func titleCacheKeys(title string) []string {
	return slices.Concat(playback.CacheKeys(title), play.CacheKeys(title), discovery.CacheKeys(), recommend.CacheKeys())
}
