package rpc

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/baggage"
	"google.golang.org/grpc"

	"github.com/flix-lab/flix/services"
)

// Call is an injected failure of a dependency, in the manner of Netflix's
// failure injection testing ("FIT: Failure Injection Testing", Netflix
// Technology Blog, October 2014): the gateway decides who is concerned, the
// decision travels with the request, and whoever makes the call applies it.
type Call struct {
	// ID of the fault, without which no scope can be marked.
	ID string `json:"id"`
	// Name of the call: a service ("license"), a method of it
	// ("license/Issue"), or a path at the gateway ("/play/start", with those below it). Letter case
	// does not matter.
	Name string `json:"name"`
	// Region of the caller; "" is any.
	Region string `json:"region,omitempty"`
	// Fail answers Unavailable without making the call, after Delay.
	Fail  bool          `json:"fail,omitempty"`
	Delay time.Duration `json:"delay,omitempty"`
	// Share of the calls in scope that are hit, 0 to 1.
	Share float64 `json:"share"`
	Scope Scope   `json:"scope,omitzero"`
	// Until is when it lapses; zero is never.
	Until time.Time `json:"until,omitzero"`
}

// Scope says whose requests a Call concerns; the zero value everybody's, those
// that come from no viewer included.
type Scope struct {
	Members   []string `json:"members,omitempty"`
	Devices   []string `json:"devices,omitempty"`
	Countries []string `json:"countries,omitempty"`
	ISPs      []string `json:"isps,omitempty"`
	// Clients are networks of client addresses.
	Clients []netip.Prefix `json:"clients,omitempty"`
	// Share of the clients, 0 to 1; 0 is all. A client is in or out for as long
	// as the fault lasts.
	Share float64 `json:"share,omitempty"`
}

// Everybody says that the scope excludes nobody.
func (s Scope) Everybody() bool {
	return len(s.Members)+len(s.Devices)+len(s.Countries)+len(s.ISPs)+len(s.Clients) == 0 && s.Share == 0
}

// String names the scope for a person.
func (s Scope) String() string {
	if s.Everybody() {
		return "everybody"
	}
	var parts []string
	for name, of := range map[string][]string{"member": s.Members, "device": s.Devices, "country": s.Countries, "isp": s.ISPs} {
		if len(of) > 0 {
			parts = append(parts, name+" "+strings.Join(of, "|"))
		}
	}
	slices.Sort(parts)
	if n := len(s.Clients); n > 0 {
		parts = append(parts, fmt.Sprintf("%d client networks", n))
	}
	if s.Share > 0 {
		parts = append(parts, fmt.Sprintf("%g %% of clients", s.Share*100))
	}
	return strings.Join(parts, ", ")
}

// Viewer is who a request comes from, as the gateway knows it.
type Viewer struct {
	Member, Device, Country, ISP string
	Client                       netip.Addr
}

// Has says whether a viewer is in the scope of the fault of that id.
func (s Scope) Has(id string, v Viewer) bool {
	in := func(of []string, x string) bool {
		return len(of) == 0 || slices.ContainsFunc(of, func(o string) bool { return strings.EqualFold(o, x) })
	}
	if !in(s.Members, v.Member) || !in(s.Devices, v.Device) || !in(s.Countries, v.Country) || !in(s.ISPs, v.ISP) {
		return false
	}
	if len(s.Clients) > 0 && !slices.ContainsFunc(s.Clients, func(p netip.Prefix) bool { return p.Contains(v.Client) }) {
		return false
	}
	return s.Share == 0 || sticky(id, v) < s.Share
}

// sticky is a number in [0, 1) that a viewer keeps as long as the fault lasts.
func sticky(id string, v Viewer) float64 {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s|%s|%s", id, v.Member, v.Client) // a hash never fails
	// FNV's high bits differ little for short texts: a round of mixing (the
	// finaliser of MurmurHash3) spreads them.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return float64(x>>11) / (1 << 53)
}

// Injector holds the calls that are injected into one process. The zero value
// injects nothing. It is safe for concurrent use.
type Injector struct{ calls atomic.Pointer[[]Call] }

// Set replaces the calls.
func (i *Injector) Set(calls []Call) {
	c := slices.Clone(calls)
	i.calls.Store(&c)
}

// None says that nothing is injected, which is the usual case.
func (i *Injector) None() bool {
	if i == nil {
		return true
	}
	c := i.calls.Load()
	return c == nil || len(*c) == 0
}

// markKey is the baggage member (W3C Baggage) that names the faults in whose
// scope a request is.
const markKey = "flix-faults"

// HeaderMark carries that member over HTTP.
const HeaderMark = "baggage"

// Mark returns the value of HeaderMark for a viewer's request; "" when the
// request is in the scope of nothing.
func (i *Injector) Mark(v Viewer) string {
	if i.None() {
		return ""
	}
	var ids []string
	for _, c := range *i.calls.Load() {
		if !c.Scope.Everybody() && c.live() && c.Scope.Has(c.ID, v) {
			ids = append(ids, c.ID)
		}
	}
	if len(ids) == 0 {
		return ""
	}
	return markKey + "=" + strings.Join(ids, ".")
}

func (c Call) live() bool { return c.Until.IsZero() || time.Now().Before(c.Until) }

// names says whether the call of that name is meant: "license/Issue" by
// "license" and by itself.
func (c Call) names(service, method string) bool {
	s, m, one := strings.Cut(c.Name, "/")
	return strings.EqualFold(s, service) && (!one || strings.EqualFold(m, method))
}

// covers says whether the path, or one below it, is meant: "/play/start" by
// "/play" and by itself, "/playlists" by neither.
func (c Call) covers(path string) bool {
	n := strings.TrimSuffix(c.Name, "/")
	return len(path) >= len(n) && strings.EqualFold(path[:len(n)], n) && (len(path) == len(n) || path[len(n)] == '/')
}

// marked says whether a request's context names the fault.
func marked(ctx context.Context, id string) bool {
	v := baggage.FromContext(ctx).Member(markKey).Value()
	return v != "" && slices.Contains(strings.Split(v, "."), id)
}

// Apply delays or fails a call of a dependency, if one of the injected ones is
// meant. service is the VIP that is called, from is the caller's region.
func (i *Injector) Apply(ctx context.Context, from, service, method string) error {
	if i.None() {
		return nil
	}
	for _, c := range *i.calls.Load() {
		if strings.HasPrefix(c.Name, "/") || c.Region != "" && c.Region != from || !c.live() || !c.names(service, method) {
			continue
		}
		if c.Scope.Everybody() || marked(ctx, c.ID) {
			if err := c.hit(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// ApplyPath is Apply for a request at the gateway of a region.
func (i *Injector) ApplyPath(ctx context.Context, from, path string, v Viewer) error {
	if i.None() {
		return nil
	}
	for _, c := range *i.calls.Load() {
		if !strings.HasPrefix(c.Name, "/") || c.Region != "" && c.Region != from || !c.live() || !c.covers(path) || !c.Scope.Has(c.ID, v) {
			continue
		}
		if err := c.hit(ctx); err != nil {
			return err
		}
	}
	return nil
}

// hit throws the dice for one call and does what it says.
func (c Call) hit(ctx context.Context) error {
	if c.Share < 1 && rand.Float64() >= c.Share {
		return nil
	}
	if c.Delay > 0 {
		t := time.NewTimer(c.Delay)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return services.Wrap(c.Name, &services.Error{Kind: services.Unavailable, Msg: "it was delayed beyond its time by fault " + c.ID, Err: ctx.Err()})
		case <-t.C:
		}
	}
	if c.Fail {
		return services.Errorf(services.Unavailable, "%s fails by fault %s", c.Name, c.ID).WithReason(ReasonInjected)
	}
	return nil
}

// ReasonInjected is the reason of an injected error.
const ReasonInjected = "fault_injected"

// DialOptions apply the injected calls to a connection from a region to a
// service. They come after a client's own, so that a span and a resilience
// command see the failure as one of the dependency.
func (i *Injector) DialOptions(from, service string) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			if err := i.Apply(ctx, from, service, method[strings.LastIndexByte(method, '/')+1:]); err != nil {
				return err
			}
			return invoke(ctx, method, req, reply, cc, opts...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			if err := i.Apply(ctx, from, service, method[strings.LastIndexByte(method, '/')+1:]); err != nil {
				return nil, err
			}
			return open(ctx, desc, cc, method, opts...)
		}),
	}
}
