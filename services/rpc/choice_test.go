package rpc

import (
	"context"
	"math"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	"github.com/flix-lab/flix/services/telemetry"
)

// conn stands for a connection.
type conn struct{ balancer.SubConn }

// pair is a picker over two servers, and the two.
func pair(t *testing.T) (p picker, a, b *choice) {
	t.Helper()
	c := &choices{}
	p, ok := c.Build(base.PickerBuildInfo{ReadySCs: map[balancer.SubConn]base.SubConnInfo{&conn{}: {}, &conn{}: {}}}).(picker)
	if !ok || len(p) != 2 {
		t.Fatalf("a picker over two servers is %v", p)
	}
	return p, p[0], p[1]
}

// ends makes a call to a server end as it says.
func ends(s *choice, took time.Duration, err error, load string) {
	s.InFlight.Add(1)
	d := balancer.DoneInfo{Err: err}
	if load != "none" {
		d.Trailer = metadata.Pairs(TrailerLoad, load)
	}
	s.done(time.Now().Add(-took), d)
}

// share counts how many of 100 calls a server gets, if each ends at once.
func share(t *testing.T, p picker, s *choice) (n int) {
	t.Helper()
	for range 100 {
		r, err := p.Pick(balancer.PickInfo{})
		if err != nil {
			t.Fatal(err)
		}
		if r.SubConn == s.conn {
			n++
		}
		r.Done(balancer.DoneInfo{Err: status.Error(codes.Canceled, "")}) // says nothing
	}
	return n
}

// The time is a bubble's: a call takes what the test says, on any machine.
func TestChoice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := Report{Utilisation: 0.9}.encode()
		idle := Report{Utilisation: 0.1}.encode()
		for name, tt := range map[string]struct {
			better, worse func(s *choice)
		}{
			"the faster":       {func(s *choice) { ends(s, time.Millisecond, nil, "none") }, func(s *choice) { ends(s, 9*time.Millisecond, nil, "none") }},
			"the less busy":    {func(s *choice) { ends(s, time.Second, nil, idle) }, func(s *choice) { ends(s, time.Second, nil, full) }},
			"who works":        {func(s *choice) { ends(s, time.Second, nil, "none") }, func(s *choice) { ends(s, time.Second, status.Error(codes.Unavailable, ""), "none") }},
			"who has less":     {func(*choice) {}, func(s *choice) { s.InFlight.Add(3) }},
			"who is in time":   {func(s *choice) { ends(s, time.Second, nil, idle) }, func(s *choice) { ends(s, time.Second, status.Error(codes.DeadlineExceeded, ""), "none") }},
			"who said no fast": {func(s *choice) { ends(s, time.Millisecond, status.Error(codes.NotFound, ""), idle) }, func(s *choice) { ends(s, time.Second, nil, idle) }},
		} {
			p, a, b := pair(t)
			tt.better(a)
			tt.worse(b)
			if n := share(t, p, a); n != 100 {
				t.Errorf("%s got %d of 100 calls", name, n)
			}
		}
		p, a, _ := pair(t)
		if n := share(t, p, a); n < 20 || n > 80 {
			t.Errorf("of two alike one got %d of 100 calls", n)
		}
		ends(a, time.Hour, nil, "none") // a stream
		if n := share(t, p, a); n < 20 || n > 80 {
			t.Errorf("the length of a stream counts: %d of 100 calls", n)
		}
	})
}

// What is known of a server outlives a change of the others, not its connection.
func TestChoicesRemember(t *testing.T) {
	c := &choices{}
	one, two := &conn{}, &conn{}
	build := func(of ...balancer.SubConn) {
		ready := map[balancer.SubConn]base.SubConnInfo{}
		for _, sc := range of {
			ready[sc] = base.SubConnInfo{}
		}
		c.Build(base.PickerBuildInfo{ReadySCs: ready})
	}
	build(one)
	was := c.known[one]
	build(one, two)
	if c.known[one] != was {
		t.Error("a new server makes the client forget the others")
	}
	build(two)
	build(one, two)
	if c.known[one] == was {
		t.Error("a broken connection is remembered")
	}
}

func TestReports(t *testing.T) {
	for _, r := range []Report{{}, {Utilisation: 0.25, Rate: 17}, {Utilisation: 3}} {
		if got, ok := parseReport(r.encode()); !ok || got != r {
			t.Errorf("%+v is read as %+v, %v", r, got, ok)
		}
	}
	for name, s := range map[string]string{
		"cut":      (Report{Utilisation: 1}).encode()[:5],
		"negative": (Report{Utilisation: -1}).encode(),
		"NaN":      (Report{Utilisation: math.NaN()}).encode(),
		"infinite": (Report{Rate: math.Inf(1)}).encode(),
	} {
		if r, ok := parseReport(s); ok {
			t.Errorf("a report that is %s is read as %+v", name, r)
		}
	}
	// cpu_utilization = 0.5, and a map that is none of ours.
	cpu := "\x09" + "\x00\x00\x00\x00\x00\x00\xe0\x3f" + "\x22\x0c\x0a\x01q\x11\x00\x00\x00\x00\x00\x00\x00\x40"
	if r, ok := parseReport(cpu); !ok || r.Utilisation != 0.5 {
		t.Errorf("the processor's utilisation is read as %+v, %v", r, ok)
	}
}

func FuzzReport(f *testing.F) {
	for _, r := range []Report{{}, {0.25, 17}, {3, 0}} {
		f.Add(r.encode())
	}
	f.Add("\x09\x00\x00\x00\x00\x00\x00\xe0\x3f")
	f.Add("\xff\xff\xff\xff")
	f.Fuzz(func(t *testing.T, s string) {
		r, ok := parseReport(s)
		if !ok {
			return
		}
		if !(r.Utilisation >= 0) || math.IsInf(r.Utilisation, 0) || !(r.Rate >= 0) || math.IsInf(r.Rate, 0) {
			t.Errorf("%q is read as %+v", s, r)
		}
		if again, ok := parseReport(r.encode()); !ok || again != r {
			t.Errorf("%+v is read again as %+v, %v", r, again, ok)
		}
	})
}

// failing answers Unavailable as long as it is told to.
type failing struct {
	grpc_health_v1.UnimplementedHealthServer
	asked atomic.Int64
}

func (f *failing) Check(context.Context, *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	f.asked.Add(1)
	return nil, status.Error(codes.Unavailable, "down")
}

// Over real connections: every answer carries the report, and a server that fails
// at once gets hardly a call.
func TestClientsGoByReports(t *testing.T) {
	good, bad := listen(t), listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- New("good", telemetry.Discard()).Serve(ctx, 0, good) }()
	f := &failing{}
	s := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, f)
	go func() { _ = s.Serve(bad) }()
	defer func() {
		cancel()
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	r := manual.NewBuilderWithScheme("two")
	r.InitialState(resolver.State{Addresses: []resolver.Address{{Addr: good.Addr().String()}, {Addr: bad.Addr().String()}}})
	cc, err := grpc.NewClient("two:///x", grpc.WithResolvers(r), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, a string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", a)
		}),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"`+ChoiceOfTwo+`":{}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	c := grpc_health_v1.NewHealthClient(cc)
	call := func() metadata.MD {
		var md metadata.MD
		_, err := c.Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.Trailer(&md), grpc.WaitForReady(true))
		if err != nil && !strings.Contains(err.Error(), "down") {
			t.Fatal(err)
		}
		return md
	}
	for good := false; !good || f.asked.Load() == 0; { // until both are connected and the bad one was found out
		if _, ok := reportOf(call()); ok {
			good = true
		}
	}
	before := f.asked.Load()
	for range 200 {
		if r, ok := reportOf(call()); ok && (r.Utilisation <= 0 || r.Utilisation > 1) {
			t.Fatalf("an idle server says %+v", r)
		}
	}
	if n := f.asked.Load() - before; n > 20 {
		t.Errorf("the server that fails got %d of 200 calls", n)
	}
}

func BenchmarkPick(b *testing.B) {
	c := &choices{}
	p := c.Build(base.PickerBuildInfo{ReadySCs: map[balancer.SubConn]base.SubConnInfo{&conn{}: {}, &conn{}: {}, &conn{}: {}}})
	load := metadata.Pairs(TrailerLoad, Report{Utilisation: 0.1, Rate: 100}.encode())
	b.ReportAllocs()
	for b.Loop() {
		r, err := p.Pick(balancer.PickInfo{})
		if err != nil {
			b.Fatal(err)
		}
		r.Done(balancer.DoneInfo{Trailer: load})
	}
}

func BenchmarkTrailer(b *testing.B) {
	var g gauge
	b.ReportAllocs()
	for b.Loop() {
		if g.trailer(time.Now()) == nil {
			b.Fatal("no report")
		}
	}
}
