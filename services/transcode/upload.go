package transcode

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/media"
	"github.com/flix-lab/flix/services/objects"
)

// mediaKey is the key of a published file in objects.BucketMedia.
func mediaKey(title string, version uint64, path string) string {
	return fmt.Sprintf("titles/%s/%d/%s", title, version, path)
}

// upload stores every file of the title and describes them.
func (s *Server) upload(ctx context.Context, h *held, dir string, x media.Index) (*cachecontrolpb.Asset, error) {
	if err := s.d.Objects.EnsureBucket(ctx, objects.BucketMedia); err != nil {
		return nil, services.Wrap("transcode: upload", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	j := h.job()
	a := &cachecontrolpb.Asset{
		TitleId: j.Title, Version: x.Version, DurationMs: x.DurationMS, Name: j.Name,
		Origins: []string{s.d.Region}, PublishedUnixMs: time.Now().UnixMilli(),
	}
	names := x.Files()
	from, to := steps[stepUpload].at, steps[stepPublish].at
	for i, name := range names {
		f, err := s.uploadFile(ctx, root, x, name)
		if err != nil {
			return nil, fmt.Errorf("transcode: upload %s: %w", name, err)
		}
		a.Files = append(a.Files, f)
		_ = h.change(ctx, false, func(j *job) { j.Percent = from + (to-from)*float64(i+1)/float64(len(names)) })
	}
	return a, nil
}

func (s *Server) uploadFile(ctx context.Context, root *os.Root, x media.Index, name string) (*cachecontrolpb.File, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	digest, err := media.NewDigest(f, uint64(info.Size()))
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	if _, err := s.d.Objects.PutFile(ctx, objects.BucketMedia, mediaKey(x.Title, x.Version, name), f, contentType(name)); err != nil {
		return nil, err
	}
	return describe(x, name, digest), nil
}

// describe says what a file of a title is.
func describe(x media.Index, name string, d media.Digest) *cachecontrolpb.File {
	f := &cachecontrolpb.File{Path: name, Size: d.Size, Sha256: d.SHA256, ChunkBytes: d.ChunkBytes, ChunkSha256: d.Chunks}
	for _, t := range x.Tracks {
		if t.Path == name {
			f.Kind, f.Rung, f.Kbps, f.Width, f.Height, f.Codecs = t.Kind, t.ID, uint32(t.Kbps), uint32(t.Width), uint32(t.Height), t.Codecs
			return f
		}
	}
	switch name {
	case media.IndexPath:
		f.Kind = "index"
	case media.DASHPath:
		f.Kind = "manifest"
	case media.HLSPath:
		f.Kind = "hls"
	default: // the media playlists that the one above names
		f.Kind = "playlist"
	}
	return f
}

func contentType(name string) string {
	switch {
	case strings.HasSuffix(name, ".mp4"):
		return "video/mp4"
	case strings.HasSuffix(name, ".mpd"):
		return "application/dash+xml"
	case strings.HasSuffix(name, ".m3u8"):
		return "application/vnd.apple.mpegurl"
	}
	return "application/json"
}
