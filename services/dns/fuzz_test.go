package dns

import (
	"net"
	"testing"

	mdns "github.com/miekg/dns"

	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// FuzzAnswer: whatever arrives, the answer can be sent, fits and is a reply.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []func() *mdns.Msg{
		func() *mdns.Msg { return new(mdns.Msg).SetQuestion("api.flix.test.", mdns.TypeHTTPS) },
		func() *mdns.Msg { return new(mdns.Msg).SetQuestion("_https._tcp.play.flix.test.", mdns.TypeSRV) },
		func() *mdns.Msg { return new(mdns.Msg).SetQuestion("a.us-east.elb.flix.test.", mdns.TypeANY) },
		func() *mdns.Msg {
			m := new(mdns.Msg).SetQuestion("api.flix.test.", mdns.TypeA).SetEdns0(4096, true)
			opt := m.IsEdns0()
			opt.Option = append(opt.Option, &mdns.EDNS0_SUBNET{Code: mdns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.IPv4(198, 18, 1, 0)})
			return m
		},
	} {
		b, err := seed().Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0, 1, 2, 3})
	topo, err := topology.Preset(2)
	if err != nil {
		f.Fatal(err)
	}
	s := &Server{
		deps: Deps{Topology: topo, Region: "us-east", Zones: func(string) []Endpoint { return []Endpoint{{Host: "127.0.0.1", Port: 443, Zone: "a"}} }},
		ttl:  2, metrics: newMetrics(telemetry.Discard().Metrics),
	}
	s.SetTopology(topo)
	f.Fuzz(func(t *testing.T, b []byte) {
		req := new(mdns.Msg)
		if req.Unpack(b) != nil {
			return
		}
		resp := s.answer(req)
		resp.Truncate(udpSize(req))
		out, err := resp.Pack()
		if err != nil {
			t.Fatalf("cannot send the answer to %v: %v", req, err)
		}
		if len(out) > udpSize(req) {
			t.Fatalf("%d bytes, at most %d fit", len(out), udpSize(req))
		}
		if !resp.Response || resp.Id != req.Id {
			t.Fatalf("not a reply to %v: %v", req, resp)
		}
	})
}

// FuzzWeights: what parses is in range.
func FuzzWeights(f *testing.F) {
	for _, s := range []string{"", `{"us-east":0.5}`, `{"a":-1}`, `[]`, `{"a":1e999}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		w, err := parseWeights(in)
		if err != nil {
			return
		}
		for r, v := range w {
			if !(v >= 0 && v <= 1) {
				t.Errorf("%s: %v", r, v)
			}
		}
	})
}
