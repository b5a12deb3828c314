package gateway

import (
	"hash/maphash"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// Rate is how often somebody may ask: so many requests per second on average,
// and so many at once.
type Rate struct {
	PerSecond float64
	Burst     int
}

// maxRate bounds a rate, per second.
const maxRate = 1e6

// ParseRate reads "10/s", "600/m", "5000/h", each with ":BURST" behind it if the
// burst is not what one second brings. "" and "off" are no limit.
func ParseRate(text string) (Rate, error) {
	if text == "" || text == "off" {
		return Rate{}, nil
	}
	bad := func(why string) (Rate, error) {
		return Rate{}, services.Errorf(services.Invalid, "rate %q: %s", text, why).WithRemedy("write it like 10/s, 600/m or 10/s:50 (a burst of 50)")
	}
	spec, burst, hasBurst := strings.Cut(text, ":")
	number, unit, ok := strings.Cut(spec, "/")
	if !ok {
		return bad("it has no unit of time")
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !(n > 0) || math.IsInf(n, 0) {
		return bad("the number of requests is not above 0")
	}
	switch unit {
	case "s":
	case "m":
		n /= 60
	case "h":
		n /= 3600
	default:
		return bad("the unit is not s, m or h")
	}
	if n > maxRate || n < 1e-6 {
		return bad("it is out of all proportion")
	}
	r := Rate{PerSecond: n, Burst: max(1, int(math.Ceil(n)))}
	if hasBurst {
		if r.Burst, err = strconv.Atoi(burst); err != nil || r.Burst < 1 || r.Burst > maxRate {
			return bad("the burst is not a number from 1 on")
		}
	}
	return r, nil
}

// String is the form that ParseRate reads.
func (r Rate) String() string {
	if r.PerSecond == 0 {
		return "off"
	}
	return strconv.FormatFloat(r.PerSecond, 'g', -1, 64) + "/s:" + strconv.Itoa(r.Burst)
}

// Limits are rates by whom they count: one client address (of IPv6, its /64),
// one member, or everybody.
type Limits struct {
	Client string `json:"client,omitempty"`
	Member string `json:"member,omitempty"`
	All    string `json:"all,omitempty"`
}

// rates are Limits ready for use.
type rates struct{ client, member, all Rate }

func (l Limits) parse() (r rates, err error) {
	for _, p := range []struct {
		to   *Rate
		text string
	}{{&r.client, l.Client}, {&r.member, l.Member}, {&r.all, l.All}} {
		if *p.to, err = ParseRate(p.text); err != nil {
			return r, err
		}
	}
	return r, nil
}

// buckets are token buckets by key in bounded memory. Each is one number, the
// moment by which it will be full again (the "theoretical arrival time" of the
// generic cell rate algorithm, ITU-T I.371), so that a bucket that nobody uses
// says the same as none at all and may be forgotten. Keys share a set of slots
// by their hash; where a set is full the one nearest to full is forgotten.
type buckets struct {
	seed maphash.Seed
	sets [bucketSets]bucketSet
}

const (
	bucketSets = 1 << 13
	bucketWays = 6
)

type bucketSet struct {
	mu    sync.Mutex
	keys  [bucketWays]uint64
	fulls [bucketWays]int64 // Unix nanoseconds
}

// take takes one token of the key's bucket. Where there is none it returns how
// long until there is.
func (b *buckets) take(key uint64, r Rate, now int64) (wait time.Duration, ok bool) {
	if key == 0 {
		key = 1 // 0 marks a free slot
	}
	set := &b.sets[key%bucketSets]
	interval := int64(float64(time.Second) / r.PerSecond)
	room := interval * int64(r.Burst)
	set.mu.Lock()
	defer set.mu.Unlock()
	slot := 0
	for k := range set.keys {
		if set.keys[k] == key {
			slot = k
			break
		}
		if set.fulls[k] < set.fulls[slot] {
			slot = k
		}
	}
	if set.keys[slot] != key {
		set.keys[slot], set.fulls[slot] = key, now
	}
	full := max(set.fulls[slot], now) + interval
	if over := full - now - room; over > 0 {
		return time.Duration(over), false
	}
	set.fulls[slot] = full
	return 0, true
}

// limiter is the filter "rate-limit".
type limiter struct {
	rates atomic.Pointer[rates] // what holds on every route
	table atomic.Pointer[buckets]
	// shared says that rates are of the region: each of its gateways takes its
	// part.
	shared atomic.Bool
	mu     sync.Mutex
	text   Limits
}

func (l *limiter) options() []Option {
	option := func(name, doc string, field func(*Limits) *string) Option {
		return Option{Name: name, Doc: doc, Default: "off", Set: func(v string) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			next := l.text
			*field(&next) = v
			r, err := next.parse()
			if err == nil {
				l.text = next
				l.rates.Store(&r)
			}
			return err
		}}
	}
	return []Option{
		option("client", "requests of one client address (IPv6: /64) on all routes, like 50/s:100", func(l *Limits) *string { return &l.Client }),
		option("member", "requests of one member on all routes", func(l *Limits) *string { return &l.Member }),
		option("all", "requests of everybody to this gateway", func(l *Limits) *string { return &l.All }),
		{Name: "scope", Doc: "whose the rates are, those of routes too: gateway, or region, whose gateways then take an equal part each", Default: scopeGateway, Set: func(v string) error {
			switch v {
			case "", scopeGateway, scopeRegion:
				l.shared.Store(v == scopeRegion)
				return nil
			}
			return services.Errorf(services.Invalid, "scope %q is neither %s nor %s", v, scopeGateway, scopeRegion)
		}},
	}
}

// Scopes of a rate.
const (
	scopeGateway = "gateway"
	scopeRegion  = "region"
)

// buckets returns the table, which is made when a limit is first met.
func (l *limiter) buckets() *buckets {
	if b := l.table.Load(); b != nil {
		return b
	}
	l.table.CompareAndSwap(nil, &buckets{seed: maphash.MakeSeed()})
	return l.table.Load()
}

// whole is the scope of limits that hold on every route.
const whole = ""

// limitRate refuses requests above the rates. Each gateway counts what passes
// it, without asking another: by default a rate is of one gateway, and with
// several behind a balancer a client gets as much from each. With the scope
// region a rate is divided by the number of gateways that the registry shows up,
// which is right as far as requests are spread evenly: who keeps to one
// connection keeps to one gateway, and gets that one's part.
func (s *Server) limitRate(ex *Exchange) error {
	var route *rates
	if ex.Route != nil && ex.Route.compiled != nil {
		route = ex.Route.compiled.rates
	}
	all := s.limiter.rates.Load()
	if route == nil && (all == nil || *all == (rates{})) {
		return nil
	}
	if all != nil {
		if err := s.within(ex, whole, all); err != nil {
			return err
		}
	}
	if route == nil {
		return nil
	}
	return s.within(ex, ex.Route.Name, route)
}

func (s *Server) within(ex *Exchange, scope string, r *rates) error {
	b, among := s.limiter.buckets(), s.sharers()
	now := ex.Received.UnixNano()
	if r.client.PerSecond > 0 {
		if wait, ok := b.take(b.hashAddress(scope, ex.Client), r.client.part(among), now); !ok {
			return limited(ex, "this client", r.client, wait)
		}
	}
	if r.member.PerSecond > 0 && ex.Member != nil {
		if wait, ok := b.take(b.hash('m', scope, ex.Member.Member), r.member.part(among), now); !ok {
			return limited(ex, "this member", r.member, wait)
		}
	}
	if r.all.PerSecond > 0 {
		if wait, ok := b.take(b.hash('a', scope, ""), r.all.part(among), now); !ok {
			who := "everybody on this route together"
			if scope == whole {
				who = "everybody together"
			}
			return limited(ex, who, r.all, wait)
		}
	}
	return nil
}

// sharers is how many gateways share a rate, this one included.
func (s *Server) sharers() int {
	if !s.limiter.shared.Load() {
		return 1
	}
	return max(1, len(s.d.Lookup.VIP(string(topology.RoleGateway))))
}

// part is a rate's for one of n gateways. Nobody's burst is less than one
// request.
func (r Rate) part(n int) Rate {
	if n > 1 {
		r.PerSecond /= float64(n)
		r.Burst = (r.Burst + n - 1) / n
	}
	return r
}

func limited(ex *Exchange, who string, r Rate, wait time.Duration) error {
	ex.retryAfter = wait
	return services.Errorf(services.Exhausted, "%s may ask %s at most", who, r).WithReason(ReasonRateLimited).
		WithRemedy("ask again in %s", max(wait.Round(time.Millisecond), time.Millisecond))
}

func (b *buckets) hash(kind byte, scope, key string) uint64 {
	var h maphash.Hash
	h.SetSeed(b.seed)
	_ = h.WriteByte(kind) // a Hash never fails
	_, _ = h.WriteString(scope)
	_ = h.WriteByte(0)
	_, _ = h.WriteString(key)
	return h.Sum64()
}

// hashAddress is hash for what counts as one client: an IPv4 address, or the
// /64 that a subscriber of IPv6 has to himself.
func (b *buckets) hashAddress(scope string, a netip.Addr) uint64 {
	var h maphash.Hash
	h.SetSeed(b.seed)
	_ = h.WriteByte('c')
	_, _ = h.WriteString(scope)
	_ = h.WriteByte(0)
	raw := a.As16()
	n := len(raw)
	if a.Is6() && !a.Is4In6() {
		n = 8
	}
	_, _ = h.Write(raw[:n])
	return h.Sum64()
}
