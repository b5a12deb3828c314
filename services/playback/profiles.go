package playback

import (
	"context"
	"encoding/json"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/playback/playbackpb"
)

// assetsPartition is the one partition of kv.Assets.
const assetsPartition = "assets"

// Profiles implements playbackpb.PlaybackServer.
func (s *Server) Profiles(ctx context.Context, r *playbackpb.ProfilesRequest) (*playbackpb.ProfilesReply, error) {
	op := "playback.Profiles " + r.GetTitleId()
	a, err := s.assets.Read(ctx, assetKey(r.GetTitleId()), func(ctx context.Context) ([]byte, error) {
		it, err := s.d.KV.Get(ctx, kv.Assets, assetsPartition, r.GetTitleId())
		return it.Value, err
	})
	if services.KindOf(err) == services.NotFound {
		return nil, services.Wrap(op, services.Errorf(services.NotFound, "no published files of %q", r.GetTitleId()).WithReason(services.ReasonNoTitle).WithRemedy("search for it by name"))
	}
	if err != nil {
		return nil, services.Wrap(op, err)
	}
	reply, err := profilesOf(a.Value)
	if err != nil {
		return nil, services.Wrap(op, err)
	}
	reply.Stale = a.Stale
	return reply, nil
}

// profilesOf reads an asset. It refuses one that no player could use: without
// an index nothing could be checked, without video nothing be shown.
func profilesOf(b []byte) (*playbackpb.ProfilesReply, error) {
	var asset cachecontrolpb.Asset
	if err := proto.Unmarshal(b, &asset); err != nil {
		return nil, services.Errorf(services.Internal, "the stored asset does not decode: %v", err)
	}
	reply := &playbackpb.ProfilesReply{TitleId: asset.GetTitleId(), Version: asset.GetVersion(), DurationMs: asset.GetDurationMs()}
	videos := 0
	for _, f := range asset.GetFiles() {
		switch f.GetKind() {
		case "index":
			reply.IndexPath, reply.IndexSha256 = f.GetPath(), f.GetSha256()
		case "manifest":
			reply.DashPath = f.GetPath()
		case "hls":
			reply.HlsPath = masterPlaylist(reply.HlsPath, f.GetPath())
		case "video", "audio":
			if f.GetKind() == "video" {
				videos++
			}
			reply.Profiles = append(reply.Profiles, &playbackpb.Profile{
				Id: f.GetRung(), Kind: f.GetKind(), Path: f.GetPath(), Kbps: f.GetKbps(),
				Width: f.GetWidth(), Height: f.GetHeight(), Codecs: f.GetCodecs(), Size: f.GetSize(),
			})
		}
	}
	if reply.IndexPath == "" || len(reply.IndexSha256) == 0 || videos == 0 {
		return nil, services.Errorf(services.Internal, "the stored asset of %q lacks an index or video", asset.GetTitleId())
	}
	return reply, nil
}

// masterPlaylist picks among the HLS playlists of a title the one that names
// the others, by the names that packagers give it; else the first.
func masterPlaylist(have, next string) string {
	if have == "" || next == "master.m3u8" {
		return next
	}
	return have
}

// bookmark is the value of a row of kv.Bookmarks.
type bookmark struct {
	PositionS float64   `json:"position_s"`
	At        time.Time `json:"at"`
}

// Bookmark implements playbackpb.PlaybackServer. It asks the store first: a
// viewer who comes back within the cache's time to live wants the last
// position, not a recent one.
func (s *Server) Bookmark(ctx context.Context, r *playbackpb.BookmarkRequest) (*playbackpb.BookmarkReply, error) {
	a, err := s.bookmarks.Refresh(ctx, "playback/bookmark/"+r.GetMemberId()+"/"+r.GetTitleId(), func(ctx context.Context) (b bookmark, err error) {
		it, err := s.d.KV.Get(ctx, kv.Bookmarks, r.GetMemberId(), r.GetTitleId())
		if err != nil {
			return b, err
		}
		if err := json.Unmarshal(it.Value, &b); err != nil {
			return b, services.Errorf(services.Internal, "stored bookmark: %v", err)
		}
		return b, nil
	})
	switch {
	case services.KindOf(err) == services.NotFound:
		return &playbackpb.BookmarkReply{}, nil
	case err != nil:
		return nil, services.Wrap("playback.Bookmark "+r.GetTitleId(), err)
	}
	return &playbackpb.BookmarkReply{PositionS: a.Value.PositionS, Found: true}, nil
}
