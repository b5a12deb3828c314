package dns_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/flix-lab/flix/services/dns"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// TestHealthMovesAway: a region whose balancers do not answer any more is left,
// though its registry still shows them; when none answers, nobody is left.
func TestHealthMovesAway(t *testing.T) {
	topo, err := topology.Preset(2)
	if err != nil {
		t.Fatal(err)
	}
	topo.Timing.LeaseRenewal = topology.Duration(10 * time.Millisecond)
	var (
		mu    sync.Mutex
		sick  = map[string]bool{}
		zones = map[string][]dns.Endpoint{}
		at    = map[string]string{}
	)
	for k, r := range topo.RegionNames() {
		srv := httptest.NewServer(http.NotFoundHandler()) // whatever answers, answers
		t.Cleanup(srv.Close)
		at[r] = srv.Listener.Addr().String()
		zones[r] = []dns.Endpoint{{Host: "127.0.0.1", Port: 4000 + k, Zone: "a", Check: at[r]}}
	}
	fail := func(regions ...string) {
		mu.Lock()
		defer mu.Unlock()
		clear(sick)
		for _, r := range regions {
			sick[at[r]] = true
		}
	}
	pc, l := bind(t)
	srv, err := dns.New(dns.Deps{
		UDP: pc, TCP: l, Topology: topo, Zones: func(r string) []dns.Endpoint { return zones[r] }, Region: "us-east", Tel: telemetry.Discard(), Timing: topo.Timing,
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			mu.Lock()
			refused := sick[addr]
			mu.Unlock()
			if refused {
				return nil, errors.New("refused")
			}
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	own, other := uint16(4000), uint16(4001)
	if topo.RegionNames()[0] != "us-east" {
		own, other = other, own
	}
	for _, step := range []struct {
		what string
		fail []string
		want uint16
	}{
		{"all are well", nil, own},
		{"the region is lost", []string{"us-east"}, other},
		{"nobody answers the checks", topo.RegionNames(), own},
		{"it is lost again", []string{"us-east"}, other},
		{"it is back", nil, own},
	} {
		fail(step.fail...)
		awaitPort(t, pc.LocalAddr().String(), step.what, step.want)
	}
}

// awaitPort waits until a server answers with a port for the edge.
func awaitPort(t *testing.T, server, what string, want uint16) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for got := edgePort(server); got != want; got = edgePort(server) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: port %d, want %d", what, got, want)
		}
		<-time.After(time.Millisecond)
	}
}

// edgePort is the port that a server answers with for the edge; 0 without one.
func edgePort(server string) uint16 {
	m := new(mdns.Msg).SetQuestion("api.flix.test.", mdns.TypeHTTPS)
	reply, _, err := (&mdns.Client{Net: "udp"}).Exchange(m, server)
	if err != nil || len(reply.Answer) != 1 {
		return 0
	}
	for _, kv := range reply.Answer[0].(*mdns.HTTPS).Value {
		if p, ok := kv.(*mdns.SVCBPort); ok {
			return p.Port
		}
	}
	return 0
}

// TestDeathIsNoticedAtOnce: a balancer that dies is left long before its next
// check, and one that is well is asked on the connection that there is.
func TestDeathIsNoticedAtOnce(t *testing.T) {
	topo, err := topology.Preset(2)
	if err != nil {
		t.Fatal(err)
	}
	topo.Timing.LeaseRenewal = topology.Duration(time.Hour)
	topo.Timing.RPCTimeout = topology.Duration(patience) // no check is late
	zones := map[string][]dns.Endpoint{}
	asked := make(chan string, 16)
	var (
		own       *httptest.Server
		near, far uint16
	)
	for k, r := range topo.RegionNames() {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("ok"))
			asked <- r
		}))
		t.Cleanup(srv.Close)
		zones[r] = []dns.Endpoint{{Host: "127.0.0.1", Port: 4000 + k, Zone: "a", Check: srv.Listener.Addr().String()}}
		if r == "us-east" {
			own, near = srv, uint16(4000+k)
		} else {
			far = uint16(4000 + k)
		}
	}
	pc, l := bind(t)
	srv, err := dns.New(dns.Deps{
		UDP: pc, TCP: l, Topology: topo, Zones: func(r string) []dns.Endpoint { return zones[r] }, Region: "us-east", Tel: telemetry.Discard(), Timing: topo.Timing,
		Dial: (&net.Dialer{}).DialContext,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	<-asked
	<-asked
	awaitPort(t, pc.LocalAddr().String(), "all are well", near)
	_ = own.Listener.Close()
	own.CloseClientConnections()
	awaitPort(t, pc.LocalAddr().String(), "the region is lost", far)
}

// TestChecksShareAConnection: checks of a balancer that is well do not connect
// anew each time.
func TestChecksShareAConnection(t *testing.T) {
	topo, err := topology.Preset(1)
	if err != nil {
		t.Fatal(err)
	}
	topo.Timing.LeaseRenewal = topology.Duration(time.Millisecond)
	topo.Timing.RPCTimeout = topology.Duration(patience) // no check is late
	const checks = 20
	asked, dialled := make(chan struct{}, 1000), make(chan struct{}, 1000)
	edge := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{} }))
	t.Cleanup(edge.Close)
	pc, l := bind(t)
	srv, err := dns.New(dns.Deps{
		UDP: pc, TCP: l, Topology: topo, Region: topo.RegionNames()[0], Tel: telemetry.Discard(), Timing: topo.Timing,
		Zones: func(string) []dns.Endpoint {
			return []dns.Endpoint{{Host: "127.0.0.1", Port: 4000, Zone: "a", Check: edge.Listener.Addr().String()}}
		},
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dialled <- struct{}{}
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx) }()
	for range checks {
		<-asked
	}
	cancel()
	<-done
	if n := len(dialled); n > checks/4 {
		t.Errorf("%d checks took %d connections", checks, n)
	}
}
