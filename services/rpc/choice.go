package rpc

import (
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flix-lab/flix/services/resilience/cost"
)

// ChoiceOfTwo is the name of the policy by which the lab's clients choose among
// the servers of a VIP: of two at random the one that a further call costs less,
// by its latency, the client's own calls under way and the utilisation that it
// reports (TrailerLoad).
const ChoiceOfTwo = "flix_choice_of_two"

// init registers the policy: gRPC finds policies by name in a table of its own,
// which may be written while the program initialises and at no other time.
func init() { balancer.Register(choiceBuilder{}) }

// choiceBuilder makes the balancer of one client.
type choiceBuilder struct{}

// Name implements balancer.Builder.
func (choiceBuilder) Name() string { return ChoiceOfTwo }

// Build implements balancer.Builder.
func (choiceBuilder) Build(cc balancer.ClientConn, o balancer.BuildOptions) balancer.Balancer {
	return base.NewBalancerBuilder(ChoiceOfTwo, &choices{}, base.Config{}).Build(cc, o)
}

// choices makes a client's pickers, and keeps what is known of a server from one
// to the next. The balancer calls it from one goroutine at a time.
type choices struct{ known map[balancer.SubConn]*choice }

// choice is a connection to one server.
type choice struct {
	conn balancer.SubConn
	cost.Cost
}

// Build implements base.PickerBuilder.
func (c *choices) Build(info base.PickerBuildInfo) balancer.Picker {
	known := make(map[balancer.SubConn]*choice, len(info.ReadySCs))
	p := make(picker, 0, len(info.ReadySCs))
	for sc := range info.ReadySCs {
		s := c.known[sc]
		if s == nil {
			s = &choice{conn: sc}
		}
		known[sc] = s
		p = append(p, s)
	}
	// A connection that broke is as one to a new server: it may be one.
	c.known = known
	if len(p) == 0 {
		return base.NewErrPicker(balancer.ErrNoSubConnAvailable)
	}
	return p
}

// picker chooses among the servers that are connected.
type picker []*choice

// Pick implements balancer.Picker.
func (p picker) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	if len(p) == 1 {
		return balancer.PickResult{SubConn: p[0].conn}, nil
	}
	now := time.Now()
	i := rand.IntN(len(p))
	j := rand.IntN(len(p) - 1)
	if j >= i {
		j++
	}
	s := p[i]
	if cost.Cheaper(&p[j].Cost, &s.Cost, now) {
		s = p[j]
	}
	s.InFlight.Add(1)
	return balancer.PickResult{SubConn: s.conn, Done: func(d balancer.DoneInfo) { s.done(now, d) }}, nil
}

// longest is what a call takes at most: what ends after that is a stream, and
// how long that was of use says nothing of its server.
const longest = cost.Memory

// done works the end of a call in.
func (s *choice) done(began time.Time, d balancer.DoneInfo) {
	s.InFlight.Add(-1)
	now := time.Now()
	took := now.Sub(began)
	switch status.Code(d.Err) {
	case codes.Canceled:
		return // the caller lost interest
	case codes.Unavailable, codes.ResourceExhausted, codes.Internal, codes.Unknown:
		// Whoever fails is quick about it: it must not be chosen for that.
		s.Told(1, now)
		return
	case codes.DeadlineExceeded:
		s.Told(1, now)
	default:
		if r, ok := reportOf(d.Trailer); ok {
			s.Told(r.Utilisation, now)
		} else {
			s.Told(0, now) // it answers well again
		}
	}
	if took <= longest {
		s.Took(took, now)
	}
}
