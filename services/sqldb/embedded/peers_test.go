package embedded

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/flix-lab/flix/services/sqldb/sqldbpb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// oneReply answers whoever asks what it is.
type oneReply struct {
	sqldbpb.UnimplementedSQLServer
}

func (oneReply) State(context.Context, *sqldbpb.StateRequest) (*sqldbpb.StateReply, error) {
	return &sqldbpb.StateReply{Region: "us-west"}, nil
}

// muffled holds back all that its connections write while mute is locked. A
// handler that only waits would not be silent: at the deadline that came with
// the question the server resets the stream, which is something heard.
type muffled struct {
	net.Listener
	mute sync.RWMutex
}

func (m *muffled) Accept() (net.Conn, error) {
	c, err := m.Listener.Accept()
	return muffledConn{c, &m.mute}, err
}

type muffledConn struct {
	net.Conn
	mute *sync.RWMutex
}

func (c muffledConn) Write(b []byte) (int, error) {
	c.mute.RLock()
	defer c.mute.RUnlock()
	return c.Conn.Write(b)
}

// A link was dropped after one look that timed out, which on a busy machine is
// nothing: it takes two in a row.
func TestOneSilenceKeepsTheLink(t *testing.T) {
	on, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &muffled{Listener: on}
	srv := grpc.NewServer()
	sqldbpb.RegisterSQLServer(srv, oneReply{})
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
		p.cfg.Timing.RPCTimeout = topology.Duration(time.Minute)
		if silent {
			l.mute.Lock()
			defer l.mute.Unlock()
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
