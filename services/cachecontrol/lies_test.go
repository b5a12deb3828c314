package cachecontrol

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

func (f *fakeAppliance) hello(h *pb.Hello) {
	f.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Hello{Hello: h}})
}

// liar connects with a Hello of one's own.
func (p *planet) liar(c pb.CacheControlClient, h *pb.Hello, counter uint64) *fakeAppliance {
	p.t.Helper()
	stream, err := c.Connect(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	f := &fakeAppliance{t: p.t, id: h.GetAppliance(), stream: stream, counter: counter, cancel: func() {}}
	f.hello(h)
	go f.listen()
	return f
}

// An appliance that says what cannot be does not keep the others from their files.
func TestAnApplianceThatLies(t *testing.T) {
	const most = math.MaxUint64
	base := func() *pb.Hello {
		return &pb.Hello{Appliance: east2, Region: "us-east", Site: "us-east-ix", Kind: "exchange", FillUrl: "http://" + east2, ClientUrl: "https://" + east2, CapacityBytes: 1 << 32, BandwidthBps: 1e9, Holdings: &pb.Holdings{}, Filled: &pb.FillBytes{}}
	}
	for name, c := range map[string]struct {
		hello func(*pb.Hello)
		then  func(*fakeAppliance)
	}{
		"all the room there is": {func(h *pb.Hello) { h.CapacityBytes, h.BandwidthBps, h.FillBps = most, most, most }, nil},
		"no room":               {func(h *pb.Hello) { h.CapacityBytes, h.BandwidthBps, h.FillBps = 0, 0, 0 }, nil},
		"files without end": {func(h *pb.Hello) {
			for i := range 50 {
				h.Holdings.Files = append(h.Holdings.Files, &pb.HeldFile{TitleId: fmt.Sprint("none-", i), Version: most, Path: "../../x", Size: most})
			}
		}, nil},
		"odd reports": {nil, func(f *fakeAppliance) {
			for _, l := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, 1e300} {
				f.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Report{Report: &pb.Report{Healthy: true, Load: l, BytesServed: most, Connections: most, UsedBytes: most, Filled: &pb.FillBytes{Cache: most, Tier: most, Peer: most}, Shed: []string{"", "none", "tt-a"}}}})
			}
			f.send(&pb.ApplianceMessage{})
			f.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Report{}})
			f.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Held{Held: &pb.Held{Files: []*pb.HeldFile{{}, {TitleId: "tt-a", Version: 1, Path: "f9", Size: most}}}}})
			f.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Removed{Removed: &pb.Removed{Files: []*pb.HeldFile{{TitleId: "none"}, {TitleId: "tt-a", Version: 1, Path: "f0"}}}}})
			f.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_FillFailed{FillFailed: &pb.FillFailed{}}})
			f.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Routes{Routes: &pb.Routes{Routes: []*pb.Route{{Prefix: "x"}, {}, {Prefix: "::/0", AsPath: math.MaxUint32, Med: math.MaxUint32}}}}})
		}},
		"a second hello": {nil, func(f *fakeAppliance) { h := base(); h.Site = "elsewhere"; f.hello(h) }},
		"the last counter": {nil, func(f *fakeAppliance) {
			f.counter = most - 1
			f.report(false)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlanet(t)
			cc := p.start("us-east")
			a := asset("tt-a", 1, 3, origins, 10)
			p.publish(cc, a)
			h := base()
			if c.hello != nil {
				c.hello(h)
			}
			f := p.liar(cc, h, 1)
			if c.then != nil {
				c.then(f)
			}
			honest := p.connect(cc, east1, 1)
			eventually(t, func() string { // what the other was to bring it takes over in time
				p.pass(time.Second)
				honest.report(true)
				honest.mu.Lock()
				defer honest.mu.Unlock()
				if !slices.ContainsFunc(honest.messages, func(m *pb.ControlMessage) bool { return m.GetFill() != nil }) {
					return "no order"
				}
				return ""
			})
			if _, err := cc.FillStatus(t.Context(), &pb.FillStatusRequest{}); err != nil {
				t.Error(err)
			}
			if _, err := cc.FillPlan(t.Context(), &pb.FillPlanRequest{}); err != nil {
				t.Error(err)
			}
		})
	}
}
