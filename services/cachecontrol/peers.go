package cachecontrol

import (
	"context"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/metadata"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// forwardedKey marks a call from another cache control, which must not be
// passed on again.
const forwardedKey = "flix-forwarded"

func isForwarded(ctx context.Context) bool {
	md, _ := metadata.FromIncomingContext(ctx)
	return len(md.Get(forwardedKey)) > 0
}

// forward calls the cache control of every other region in the background. It
// only makes faster what the store carries anyway, so failures are logged and
// no more.
func (s *Server) forward(call func(ctx context.Context, region string, c pb.CacheControlClient) error) {
	s.tasks.Add(1)
	go func() {
		defer s.tasks.Done()
		s.ask(s.lifetime, call)
	}()
}

// ask calls the cache control of every other region at once and waits.
func (s *Server) ask(ctx context.Context, call func(ctx context.Context, region string, c pb.CacheControlClient) error) {
	if s.d.Peers == nil || s.d.Regions == nil {
		return
	}
	var group errgroup.Group
	for _, region := range s.d.Regions() {
		if region == s.d.Region {
			continue
		}
		c, ok := s.d.Peers(region)
		if !ok {
			continue
		}
		group.Go(func() error {
			ctx, cancel := s.rpcContext(metadata.AppendToOutgoingContext(ctx, forwardedKey, s.d.Region))
			defer cancel()
			if err := call(ctx, region, c); err != nil {
				s.d.Tel.Log.Warn("cannot reach another region's cache control", "region", region, "error", err)
			}
			return nil
		})
	}
	_ = group.Wait() // failures are logged above
}
