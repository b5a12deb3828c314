package embedded

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/flix-lab/flix/services/sqldb/sqldbpb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// moody is a peer that answers, or says nothing until it is asked no longer.
type moody struct {
	sqldbpb.UnimplementedSQLServer
	silent atomic.Bool
}

func (m *moody) State(ctx context.Context, _ *sqldbpb.StateRequest) (*sqldbpb.StateReply, error) {
	if m.silent.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &sqldbpb.StateReply{Region: "us-west"}, nil
}

// A link was dropped after one look that timed out, which on a busy machine is
// nothing: it takes two in a row.
func TestOneSilenceKeepsTheLink(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	peer := &moody{}
	srv := grpc.NewServer()
	sqldbpb.RegisterSQLServer(srv, peer)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	defer func() {
		srv.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()

	p := newPeers(Config{
		Region: "us-east", Peers: func() map[string]string { return map[string]string{"us-west": l.Addr().String()} },
		Dial: (&net.Dialer{}).DialContext, Tel: telemetry.New(telemetry.Config{Instance: "us-east/a/sql/1"}), Timing: topology.LabTiming(),
	}, &history{})
	defer func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}()
	link := p.connect()["us-west"]
	ask := func(silent bool) {
		t.Helper()
		peer.silent.Store(silent)
		p.cfg.Timing.RPCTimeout = topology.Duration(time.Minute)
		if silent {
			p.cfg.Timing.RPCTimeout = topology.Duration(20 * time.Millisecond)
		}
		if _, err := p.state(t.Context(), "us-west", link); (err != nil) != silent {
			t.Fatalf("a peer that is silent %v: %v", silent, err)
		}
	}
	for _, silent := range []bool{true, false, true} {
		if ask(silent); p.link("us-west") != link {
			t.Fatal("the link is dropped after one silence")
		}
	}
	if ask(true); p.link("us-west") != nil {
		t.Error("the link is kept after two silences in a row")
	}
}
