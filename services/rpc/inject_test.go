package rpc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/license/licensepb"
	"github.com/flix-lab/flix/services/telemetry"
)

// quick issues a licence at once; it passes on what is in the scope of a fault.
type quick struct {
	licensepb.UnimplementedLicenseServer
	marked bool
}

func (q *quick) Issue(ctx context.Context, _ *licensepb.IssueRequest) (*licensepb.IssueReply, error) {
	q.marked = marked(ctx, "f-1")
	return &licensepb.IssueReply{License: "l"}, nil
}

// caller is a client of a licence service over a real socket.
func caller(t *testing.T, i *Injector, impl licensepb.LicenseServer) licensepb.LicenseClient {
	t.Helper()
	ln := listen(t)
	s := New("license", telemetry.Discard())
	licensepb.RegisterLicenseServer(s, impl)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, 0, ln) }()
	t.Cleanup(func() { cancel(); <-done })
	opts := append(telemetry.Discard().DialOptions(), i.DialOptions("us-east", "license")...)
	conn, err := grpc.NewClient(ln.Addr().String(), append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return licensepb.NewLicenseClient(conn)
}

func TestInjectedCalls(t *testing.T) {
	var i Injector
	impl := &quick{}
	c := caller(t, &i, impl)
	issue := func(ctx context.Context) error {
		_, err := c.Issue(ctx, &licensepb.IssueRequest{})
		return err
	}
	if err := issue(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]Call{
		"the service":       {ID: "f-1", Name: "license", Fail: true, Share: 1},
		"the method":        {ID: "f-1", Name: "License/issue", Fail: true, Share: 1, Region: "us-east"},
		"until a later end": {ID: "f-1", Name: "license", Fail: true, Share: 1, Until: time.Now().Add(time.Hour)},
	} {
		i.Set([]Call{call})
		if err := issue(t.Context()); services.ReasonOf(err) != ReasonInjected || services.KindOf(err) != services.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, call := range map[string]Call{
		"another service": {ID: "f-1", Name: "steering", Fail: true, Share: 1},
		"another method":  {ID: "f-1", Name: "license/Renew", Fail: true, Share: 1},
		"another region":  {ID: "f-1", Name: "license", Fail: true, Share: 1, Region: "us-west"},
		"one that lapsed": {ID: "f-1", Name: "license", Fail: true, Share: 1, Until: time.Now().Add(-time.Second)},
		"others' scope":   {ID: "f-1", Name: "license", Fail: true, Share: 1, Scope: Scope{Devices: []string{"tv"}}},
		"a path":          {ID: "f-1", Name: "/license", Fail: true, Share: 1},
	} {
		i.Set([]Call{call})
		if err := issue(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	i.Set([]Call{{ID: "f-1", Name: "license", Delay: time.Hour, Share: 1}})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := issue(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call that is delayed beyond its time: %v", err)
	}
	i.Set(nil)
	if err := issue(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestScopeTravels marks a request as the gateway does, and follows the mark
// through HTTP and gRPC to the call that it is about, and to one beyond it.
func TestScopeTravels(t *testing.T) {
	var i Injector
	impl := &quick{}
	c := caller(t, &i, impl)
	scoped := Call{ID: "f-1", Name: "license", Fail: true, Share: 1, Scope: Scope{Devices: []string{"tv"}}}
	i.Set([]Call{scoped})
	for device, hit := range map[string]bool{"tv": true, "TV": true, "phone": false} {
		h := http.Header{}
		if mark := i.Mark(Viewer{Device: device}); mark != "" {
			h.Set(HeaderMark, mark)
		}
		ctx := telemetry.Propagator.Extract(t.Context(), propagation.HeaderCarrier(h))
		_, err := c.Issue(ctx, &licensepb.IssueRequest{})
		if (services.ReasonOf(err) == ReasonInjected) != hit {
			t.Errorf("on %s: %v", device, err)
		}
	}
	// A call that is not meant carries the mark on.
	i.Set([]Call{{ID: "f-1", Name: "sql", Fail: true, Share: 1, Scope: scoped.Scope}})
	h := http.Header{HeaderMark: nil}
	h.Set(HeaderMark, i.Mark(Viewer{Device: "tv"}))
	if _, err := c.Issue(telemetry.Propagator.Extract(t.Context(), propagation.HeaderCarrier(h)), &licensepb.IssueRequest{}); err != nil || !impl.marked {
		t.Errorf("the mark does not travel on: %v, %v", impl.marked, err)
	}
}

func TestScope(t *testing.T) {
	v := Viewer{Member: "m-1", Device: "tv", Country: "US", ISP: "net", Client: netip.MustParseAddr("198.18.0.7")}
	for name, c := range map[string]struct {
		s    Scope
		want bool
	}{
		"everybody":  {Scope{}, true},
		"the member": {Scope{Members: []string{"m-0", "m-1"}}, true},
		"another":    {Scope{Members: []string{"m-0"}}, false},
		"both":       {Scope{Devices: []string{"tv"}, Countries: []string{"DE"}}, false},
		"a network":  {Scope{Clients: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/24")}}, true},
		"no network": {Scope{Clients: []netip.Prefix{netip.MustParsePrefix("198.19.0.0/24")}}, false},
		"all":        {Scope{Share: 1}, true},
	} {
		if got := c.s.Has("f-1", v); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	const n = 20000
	in := 0
	for k := range n {
		v.Client = netip.AddrFrom4([4]byte{198, 18, byte(k >> 8), byte(k)})
		s := Scope{Share: 0.3}
		first := s.Has("f-1", v)
		if first {
			in++
		}
		if again := s.Has("f-1", v); again != first {
			t.Fatal("a viewer is in and out")
		}
	}
	// Five standard deviations of a binomial with p = 0.3.
	if share, spread := float64(in)/n, 5*math.Sqrt(0.3*0.7/n); math.Abs(share-0.3) > spread {
		t.Errorf("%.4f of the viewers are in, want 0.3 ± %.4f", share, spread)
	}
}

func TestShare(t *testing.T) {
	var i Injector
	i.Set([]Call{{ID: "f-1", Name: "license", Fail: true, Share: 0.25}})
	const n = 4000
	hit := 0
	for range n {
		if i.Apply(t.Context(), "us-east", "license", "Issue") != nil {
			hit++
		}
	}
	if share, spread := float64(hit)/n, 6*math.Sqrt(0.25*0.75/n); math.Abs(share-0.25) > spread {
		t.Errorf("%.4f of the calls are hit, want 0.25 ± %.4f", share, spread)
	}
	if err := i.ApplyPath(t.Context(), "us-east", "/license", Viewer{}); err != nil {
		t.Error(err)
	}
	i.Set([]Call{{ID: "f-1", Name: "/play", Fail: true, Share: 1}})
	if err := i.ApplyPath(t.Context(), "us-east", "/play/start", Viewer{}); services.ReasonOf(err) != ReasonInjected {
		t.Error(err)
	}
	for path, hit := range map[string]bool{"/play": true, "/Play/": true, "/playlists": false, "/pla": false, "/": false} {
		if err := i.ApplyPath(t.Context(), "us-east", path, Viewer{}); (err != nil) != hit {
			t.Errorf("%s: %v", path, err)
		}
	}
	if fmt.Sprint(Scope{}) != "everybody" {
		t.Error("a scope without bounds is everybody's")
	}
}

func BenchmarkNothingInjected(b *testing.B) {
	var i Injector
	b.ReportAllocs()
	for b.Loop() {
		if err := i.Apply(b.Context(), "us-east", "license", "Issue"); err != nil {
			b.Fatal(err)
		}
	}
}
