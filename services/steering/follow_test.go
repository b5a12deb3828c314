package steering_test

import (
	"context"
	"slices"
	"testing"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/steering/steeringpb"
)

// TestFollow hears of an appliance that falls ill, of its return and of a new
// one, and of nothing when only the load moves.
func TestFollow(t *testing.T) {
	f := start(t, patience)
	one, two := ispBox(1), ispBox(2)
	f.control.tell(asset(1), one.event(), two.event())
	f.until(&pb.RankRequest{}, offers(2))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := f.client.Follow(ctx, &pb.RankRequest{ClientIp: "198.18.0.7", TitleId: title})
	if err != nil {
		t.Fatal(err)
	}
	next := func(want ...string) {
		t.Helper()
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		got := ids(r)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("told of %v, want %v", got, want)
		}
	}
	a, b := one.event().GetState().GetHello().GetAppliance(), two.event().GetState().GetHello().GetAppliance()
	next(a, b)
	one.load, one.counter = 0.5, 2 // no reason to tell anybody
	f.control.tell(one.event())
	two.sick, two.counter = "disk is slow", 2
	f.control.tell(two.event())
	next(a)
	two.sick, two.counter = "", 3
	f.control.tell(two.event())
	next(a, b)
	three := ispBox(3)
	f.control.tell(three.event())
	next(a, b, three.event().GetState().GetHello().GetAppliance())
}

func TestFollowRefusals(t *testing.T) {
	f := start(t, patience)
	f.control.tell(asset(1), ispBox(1).event())
	f.until(&pb.RankRequest{}, offers(1))
	for _, x := range []struct {
		req  *pb.RankRequest
		kind services.Kind
	}{
		{&pb.RankRequest{ClientIp: "nowhere", TitleId: title}, services.Invalid},
		{&pb.RankRequest{ClientIp: "198.18.0.7", TitleId: "tt-none"}, services.NotFound},
	} {
		stream, err := f.client.Follow(t.Context(), x.req)
		if err == nil {
			_, err = stream.Recv()
		}
		if services.KindOf(err) != x.kind {
			t.Errorf("%v: %v, want %s", x.req, err, x.kind)
		}
	}
}
