package steering

import (
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/steering/steeringpb"
)

const (
	// maxFollowers bounds the clients that an instance tells of changes.
	maxFollowers = 1 << 16
	// reasonFollowers is that of the refusal of one more.
	reasonFollowers = "too_many_followers"
	// followPause is the least time between two looks for one follower: changes
	// come in crowds, when a site goes or a fill ends.
	followPause = 20 * time.Millisecond
	// followLooks is how many times within the age of a stale report a follower's
	// order is looked at though nothing was heard: an appliance that dies says
	// nothing.
	followLooks = 4
)

// bell wakes the followers. The zero value is one.
type bell struct {
	followers atomic.Int64
	next      atomic.Pointer[chan struct{}]
}

// wait returns what the next ring closes. Who asks first and looks then misses
// nothing.
func (b *bell) wait() <-chan struct{} {
	for {
		if c := b.next.Load(); c != nil {
			return *c
		}
		c := make(chan struct{})
		if b.next.CompareAndSwap(nil, &c) {
			return c
		}
	}
}

// ring wakes whoever waits; with nobody there it costs a load.
func (b *bell) ring() {
	if b.next.Load() == nil {
		return
	}
	if c := b.next.Swap(nil); c != nil {
		close(*c)
	}
}

// late says whether a report is so old that it was counted for nothing.
func (s *Server) late(state uint64, now time.Time) bool {
	return now.UnixMilli()-heardOf(state) > s.expiry.Milliseconds()
}

// Follow implements steeringpb.SteeringServer. What is told again is neither a
// decision nor a miss in the figures: nobody asked.
func (s *Server) Follow(req *pb.RankRequest, stream grpc.ServerStreamingServer[pb.RankReply]) error {
	if s.bell.followers.Add(1) > maxFollowers {
		s.bell.followers.Add(-1)
		return services.Errorf(services.Exhausted, "steering.Follow: %d clients are told of changes already", maxFollowers).
			WithReason(reasonFollowers).WithRemedy("ask with Rank")
	}
	defer s.bell.followers.Add(-1)
	ctx := stream.Context()
	look := time.NewTicker(max(followPause, s.expiry/followLooks))
	defer look.Stop()
	pause := time.NewTimer(followPause)
	defer pause.Stop()
	var told *pb.RankReply
	for {
		changed := s.bell.wait()
		reply, err := s.again(req)
		switch {
		case err != nil && told == nil:
			return err
		case err != nil: // what was told last is as good as anything
		case told == nil || !sameOrder(told, reply):
			if err := stream.Send(reply); err != nil {
				return err
			}
			told = reply
		}
		pause.Reset(followPause)
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-look.C:
		}
	}
}

// again ranks for a follower, and counts nothing.
func (s *Server) again(req *pb.RankRequest) (*pb.RankReply, error) {
	q, err := s.query("steering.Follow", req)
	if err != nil {
		return nil, err
	}
	t := s.table.Load()
	if _, ok := s.decide(&q, t, req.GetTitleId()); !ok {
		_, err := s.none(&q, req.GetTitleId())
		return nil, err
	}
	return t.reply(&q), nil
}

// sameOrder says whether two answers have the same appliances at the same ranks
// and doors; how those of a rank lie among themselves is a matter of load.
func sameOrder(a, b *pb.RankReply) bool {
	if len(a.GetCandidates()) != len(b.GetCandidates()) || a.GetVersion() != b.GetVersion() {
		return false
	}
	for _, x := range a.GetCandidates() { // ten at the most
		found := false
		for _, y := range b.GetCandidates() {
			found = found || x.GetAppliance() == y.GetAppliance() && x.GetRank() == y.GetRank() && x.GetUrl() == y.GetUrl() && x.GetPlainUrl() == y.GetPlainUrl()
		}
		if !found {
			return false
		}
	}
	return true
}
