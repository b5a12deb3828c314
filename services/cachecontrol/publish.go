package cachecontrol

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/events"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/telemetry"
)

// maxFiles bounds the files of one asset.
const maxFiles = 4096

// checkAsset says what is wrong with an asset.
func checkAsset(a *pb.Asset) error {
	switch {
	case !validName(a.GetTitleId()) || strings.Contains(a.GetTitleId(), "/"):
		return services.Errorf(services.Invalid, "asset: %q is not a title id", a.GetTitleId())
	case a.GetVersion() == 0:
		return services.Errorf(services.Invalid, "asset %s: the version is 0", a.GetTitleId())
	case len(a.GetFiles()) == 0 || len(a.GetFiles()) > maxFiles:
		return services.Errorf(services.Invalid, "asset %s: it has %d files, want 1 to %d", a.GetTitleId(), len(a.GetFiles()), maxFiles)
	case len(a.GetOrigins()) == 0:
		return services.Errorf(services.Invalid, "asset %s: no region holds its files", a.GetTitleId())
	}
	seen := make(map[string]bool, len(a.GetFiles()))
	for _, f := range a.GetFiles() {
		switch {
		case !validName(f.GetPath()):
			return services.Errorf(services.Invalid, "asset %s: %q is not a relative path", a.GetTitleId(), f.GetPath())
		case seen[f.GetPath()]:
			return services.Errorf(services.Invalid, "asset %s: two files are called %q", a.GetTitleId(), f.GetPath())
		case len(f.GetSha256()) != sha256.Size:
			return services.Errorf(services.Invalid, "asset %s: %s has no SHA-256", a.GetTitleId(), f.GetPath())
		case !chunksCover(f):
			return services.Errorf(services.Invalid, "asset %s: %s has a hole: %d chunks of %d bytes do not make %d bytes", a.GetTitleId(), f.GetPath(), len(f.GetChunkSha256()), f.GetChunkBytes(), f.GetSize())
		}
		seen[f.GetPath()] = true
	}
	return nil
}

// chunksCover says whether a file's chunks make the whole of it, each with a
// checksum; a file may have none.
func chunksCover(f *pb.File) bool {
	if f.GetChunkBytes() == 0 {
		return len(f.GetChunkSha256()) == 0
	}
	if (f.GetSize()+f.GetChunkBytes()-1)/f.GetChunkBytes() != uint64(len(f.GetChunkSha256())) {
		return false
	}
	return !slices.ContainsFunc(f.GetChunkSha256(), func(s []byte) bool { return len(s) != sha256.Size })
}

// validName says whether a name is a clean relative path that is safe in a URL
// and as a key.
func validName(p string) bool {
	return p != "" && p != "." && len(p) <= 512 && path.Clean(p) == p && !strings.HasPrefix(p, "/") && p != ".." && !strings.HasPrefix(p, "../") &&
		!strings.ContainsFunc(p, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '\\' || r == '\uFFFD' })
}

// Publish implements the announcement of a title. The region it comes to
// stores it and passes it on to the others; each region puts the event into
// its own pipeline, whose keystone drops the region's copies of the title.
func (s *Server) Publish(ctx context.Context, r *pb.PublishRequest) (*pb.PublishReply, error) {
	a := r.GetAsset()
	if err := checkAsset(a); err != nil {
		return nil, err
	}
	changed, err := s.supersedes(a)
	if err != nil {
		return nil, err
	}
	forwarded := isForwarded(ctx) // the region it was published in stores it
	if changed && !forwarded {
		if err := s.put(ctx, kv.Assets, assetsPartition, assetItem(a)); err != nil {
			return nil, services.Wrap("publish "+a.GetTitleId(), err)
		}
	}
	if changed {
		s.announce(a)
	}
	if !forwarded {
		// A repeated publication too: another region may not have had its
		// event the first time.
		s.forward(func(ctx context.Context, _ string, c pb.CacheControlClient) error {
			_, err := c.Publish(ctx, r)
			return err
		})
	}
	// The title is stored and being filled; whoever published it tries again,
	// which is idempotent, until the event is out too.
	if err := s.tell(ctx, a); err != nil {
		return nil, services.Wrap("publish "+a.GetTitleId()+": title event", err)
	}
	return &pb.PublishReply{}, nil
}

// tell puts a publication into the region's pipeline. Its id is the same in
// every region and however often it is told.
func (s *Server) tell(ctx context.Context, a *pb.Asset) error {
	if s.d.Events == nil {
		return nil
	}
	return s.d.Events.Send(ctx, events.TopicTitles, a.GetTitleId(), events.TitleEvent{
		Header: events.Header{
			ID: fmt.Sprintf("published/%s/%d", a.GetTitleId(), a.GetVersion()), At: s.d.Clock(),
			Region: s.d.Region, Instance: s.d.Instance, TraceID: telemetry.TraceID(ctx),
		},
		Kind: "published", Title: a.GetTitleId(), Version: a.GetVersion(), Bytes: bytesOf(a),
	})
}

// supersedes says whether the asset changes what is known, and notes that its
// publication is told by Publish. A version is immutable but for its
// popularity, name and origins.
func (s *Server) supersedes(a *pb.Asset) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.planner.cat.assets[a.GetTitleId()]
	switch {
	case known.GetVersion() > a.GetVersion():
		return false, services.Errorf(services.Conflict, "asset %s: version %d is published already", a.GetTitleId(), known.GetVersion()).
			WithReason("version_superseded").WithRemedy("publish a version above %d", known.GetVersion())
	case known.GetVersion() == a.GetVersion() && !slices.EqualFunc(known.GetFiles(), a.GetFiles(), sameFile):
		return false, services.Errorf(services.Conflict, "asset %s: version %d is published with other files", a.GetTitleId(), a.GetVersion()).
			WithReason("version_immutable").WithRemedy("publish them as version %d", a.GetVersion()+1)
	}
	s.told[a.GetTitleId()] = a.GetVersion()
	return !proto.Equal(known, a), nil
}

func sameFile(a, b *pb.File) bool {
	return a.GetPath() == b.GetPath() && a.GetSize() == b.GetSize() && bytes.Equal(a.GetSha256(), b.GetSha256())
}

// announce makes the asset known here, and plans. A newer version that came in
// between stays.
func (s *Server) announce(a *pb.Asset) {
	s.update(func(time.Time) {
		if s.planner.cat.assets[a.GetTitleId()].GetVersion() > a.GetVersion() {
			return
		}
		s.planner.setAsset(a)
		s.show(a)
	})
}

func assetItem(a *pb.Asset) kv.Item {
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(a)
	if err != nil { // only for strings that are not UTF-8, which gRPC refused
		panic("cachecontrol: encode asset: " + err.Error())
	}
	return kv.Item{Sort: a.GetTitleId(), Value: value}
}

// Titles implements the list of published assets, the most popular first.
func (s *Server) Titles(context.Context, *pb.TitlesRequest) (*pb.TitlesReply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &pb.TitlesReply{Assets: s.planner.cat.byPopularity()}, nil
}
