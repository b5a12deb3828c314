package play

import (
	"fmt"
	"testing"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/steering/steeringpb"
)

// Without steering the ranking that a viewer of the same ISP got last answers,
// less the appliances the client knows are broken, and the answer says so.
func TestLastRankingWhenSteeringIsAway(t *testing.T) {
	r := start(t)
	first, p := r.post(PathStart, ask())
	if p.Kind != "" || first.Stale || len(first.Appliances) != 2 {
		t.Fatalf("%+v %+v", first, p)
	}
	r.breaks("Rank", services.Errorf(services.Unavailable, "down"))
	if got, p := r.post(PathStart, ask()); p.Kind != "" || !got.Stale || len(got.Appliances) != 2 || got.Appliances[0].Name != first.Appliances[0].Name {
		t.Errorf("%+v %+v", got, p)
	}
	renew := RenewRequest{Session: "s1", Title: "tt-a", License: first.License, Device: "tv", Broken: []string{first.Appliances[0].Name}}
	if got, p := r.post(PathRenew, renew); p.Kind != "" || !got.Stale || len(got.Appliances) != 1 || got.Appliances[0].Name != first.Appliances[1].Name {
		t.Errorf("renewed: %+v %+v", got, p)
	}
	other := ask()
	other.Title = "tt-b"
	if _, p := r.post(PathStart, other); p.Kind != services.Unavailable {
		t.Errorf("a title that nobody asked for: %+v", p)
	}
}

func TestRanksAreBounded(t *testing.T) {
	r := newRanks(3)
	some := &steeringpb.RankReply{Candidates: []*steeringpb.Candidate{{Appliance: "a"}}}
	for i := range 10 {
		for range 2 {
			r.keep(rankKey{title: fmt.Sprint(i)}, some)
		}
	}
	if len(r.last) != 3 || r.without(rankKey{title: "9"}, nil) == nil || r.without(rankKey{title: "6"}, nil) != nil {
		t.Errorf("%d rankings kept", len(r.last))
	}
	r.keep(rankKey{title: "none"}, &steeringpb.RankReply{})
	if r.without(rankKey{title: "none"}, nil) != nil || r.without(rankKey{title: "9"}, []string{"a"}) != nil {
		t.Error("an empty ranking is kept, or what is broken is offered")
	}
}
