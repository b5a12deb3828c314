package embedded

import (
	"errors"
	"io"

	"google.golang.org/grpc/metadata"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv/kvpb"
)

// Replicate implements kvpb.KVServer: it merges what a peer sends and
// acknowledges each batch once it is stored. It says first who it is.
func (s *Server) Replicate(stream kvpb.KV_ReplicateServer) error {
	if err := stream.SendHeader(metadata.Pairs(mdRegion, s.cfg.Region, mdStore, s.store.id)); err != nil {
		return err
	}
	for {
		b, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if from := b.GetFromRegion(); from == "" || from == s.cfg.Region {
			return services.Errorf(services.Invalid, "replication from %q to %q: a store does not replicate to itself", from, s.cfg.Region)
		}
		if err := s.merge(b.GetMutations()); err != nil {
			return err
		}
		s.metrics.received.WithLabelValues(b.GetFromRegion()).Add(float64(len(b.GetMutations())))
		if err := stream.Send(&kvpb.ReplicateAck{Position: b.GetPosition()}); err != nil {
			return err
		}
	}
}
