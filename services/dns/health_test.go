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
	port := func() uint16 {
		m := new(mdns.Msg).SetQuestion("api.flix.test.", mdns.TypeHTTPS)
		reply, _, err := (&mdns.Client{Net: "udp"}).Exchange(m, pc.LocalAddr().String())
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
		deadline := time.Now().Add(10 * time.Second)
		for got := port(); got != step.want; got = port() {
			if time.Now().After(deadline) {
				t.Fatalf("%s: port %d, want %d", step.what, got, step.want)
			}
			<-time.After(time.Millisecond)
		}
	}
}
