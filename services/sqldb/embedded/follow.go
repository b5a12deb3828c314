package embedded

import (
	"context"
	"fmt"
	"sort"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb/sqldbpb"
)

// follow makes this node a replica of a primary until something fails.
func (s *Server) follow(ctx context.Context, lead *leader) error {
	l := s.peers.link(lead.region)
	if l == nil {
		return services.Errorf(services.Unavailable, "no link to %s", lead.region)
	}
	// Ask again: what the last look told may be older than what this node has
	// applied since.
	there, err := s.peers.state(ctx, lead.region, l)
	if err != nil {
		return err
	}
	if !there.GetPrimary() {
		return services.Errorf(services.Conflict, "%s is no longer primary", lead.region).WithReason(ReasonNotPrimary)
	}
	f := &following{s: s, l: l, region: lead.region}
	common, err := f.common(ctx, there.GetPosition())
	if err != nil {
		return err
	}
	own, _ := s.history.look()
	if common < own.position {
		s.cfg.Tel.Log.Warn("this node has change sets that the primary has not: moving them aside",
			"primary", lead.region, "common", common, "own", own.position, "diverged", own.position-common)
		if err := s.history.cutAfter(ctx, common, time.Now()); err != nil {
			return err
		}
	}
	return f.apply(ctx, common)
}

// following is a replica's stream from one primary.
type following struct {
	s      *Server
	l      *link
	region string
}

// common finds the last position up to which this node's history is the
// primary's. Mostly that is all of it, and one comparison shows it; if not, a
// binary search over the positions does.
func (f *following) common(ctx context.Context, theirs uint64) (uint64, error) {
	own, _ := f.s.history.look()
	high := min(own.position, theirs)
	same, err := f.matches(ctx, high)
	if err != nil || same {
		return high, err
	}
	// The first position at which the two differ.
	n := sort.Search(int(high), func(i int) bool {
		if err != nil {
			return true
		}
		same, err = f.matches(ctx, uint64(i)+1)
		return !same
	})
	return uint64(n), err
}

// matches says whether both histories have the same change set at a position.
func (f *following) matches(ctx context.Context, position uint64) (bool, error) {
	if position == 0 {
		return true, nil
	}
	own, err := f.s.history.setAt(ctx, position)
	if err != nil || own == nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, f.s.cfg.Timing.RPCTimeout.D())
	defer cancel()
	stream, err := f.l.rpc.Follow(ctx, &sqldbpb.FollowRequest{After: position - 1, Region: f.s.cfg.Region})
	if err != nil {
		return false, err
	}
	theirs, err := stream.Recv()
	if err != nil {
		return false, err
	}
	return proto.Equal(own, theirs), nil
}

// apply streams what comes after a position and applies it in order.
func (f *following) apply(ctx context.Context, after uint64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := f.l.rpc.Follow(ctx, &sqldbpb.FollowRequest{After: after, Region: f.s.cfg.Region})
	if err != nil {
		return err
	}
	confirm := make(chan struct{}, 1)
	confirm <- struct{}{} // what is there already counts too
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.confirm(ctx, confirm)
	}()
	defer func() { cancel(); <-done }()
	for {
		cs, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := f.s.history.applySet(ctx, cs); err != nil {
			f.s.metrics.failures.Inc()
			return fmt.Errorf("from %s: %w", f.region, err)
		}
		f.s.metrics.applied.Inc()
		f.s.peers.backoff.reset()
		select {
		case confirm <- struct{}{}:
		default: // one is due that will carry this position too
		}
	}
}

// confirm tells the primary what has been applied, whenever there is news.
func (f *following) confirm(ctx context.Context, news <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-news:
		}
		if _, err := f.s.peers.state(ctx, f.region, f.l); err != nil && ctx.Err() == nil {
			// The next change set or the next look at the peers tells it.
			f.s.cfg.Tel.Log.Debug("confirm", "primary", f.region, "err", err)
		}
	}
}
