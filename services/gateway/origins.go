package gateway

import (
	"cmp"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services/lookup"
	"github.com/flix-lab/flix/services/resilience/limit"
	"github.com/flix-lab/flix/topology"
)

// view is the servers of a VIP as the registry showed them last. It is made
// anew only when the registry's answer is another one.
type view struct {
	of      []lookup.Instance
	servers []server // by their http ports
	// callees answer gRPC: by their rpc ports, else by their http ports.
	callees []server
}

// same says whether the view is of that answer: the registry's copies are
// immutable, so that the same memory is the same answer.
func (v *view) same(up []lookup.Instance) bool {
	return v != nil && len(v.of) == len(up) && (len(up) == 0 || &v.of[0] == &up[0])
}

// view returns the servers of a VIP inside the declared networks.
func (s *Server) view(vip string) *view {
	g := s.guards.of(vip)
	up := s.d.Lookup.VIP(vip)
	v := g.view.Load()
	if v.same(up) {
		return v
	}
	v = &view{of: up, servers: make([]server, 0, len(up))}
	for _, i := range up {
		http, rpc := i.Addr(topology.PortHTTP), i.Addr(topology.PortRPC)
		if http == "" && rpc == "" || !s.inside(i) {
			continue
		}
		if http != "" {
			v.servers = append(v.servers, s.serverAt(i, http))
		}
		v.callees = append(v.callees, s.serverAt(i, cmp.Or(rpc, http)))
	}
	g.view.Store(v)
	return v
}

// serverAt is an instance at one of its addresses: in the own zone with rank 0,
// else with rank 1.
func (s *Server) serverAt(i lookup.Instance, addr string) server {
	srv := server{id: i.ID, region: i.Region, addr: addr, load: s.servers.load(addr)}
	if i.Zone != s.d.Zone {
		srv.rank = 1
	}
	return srv
}

// reached are the servers that a report shows: each instance once, as far as its
// VIP answers HTTP.
func (v *view) reached() []server {
	if len(v.servers) == 0 {
		return v.callees
	}
	return v.servers
}

// Zone affinity ends, as in Ribbon's ZoneAffinityServerListFilter, when most
// servers of the own zone are out or those that are not have too much to do.
// Ribbon's load is requests per server; here it is the share of a server's part
// of the VIP's limit, because one request means nothing to an API.
const (
	affinityBlackout = 0.8
	affinityLoad     = 0.6
)

// affinity says whether the own zone's servers can do without the others.
func affinity(servers []server, now time.Time, concurrency int64) bool {
	own, out, busy := 0, 0, int64(0)
	for i := range servers {
		if servers[i].rank != 0 {
			continue
		}
		own++
		if servers[i].load.ejected(now) {
			out++
		} else {
			busy += servers[i].load.InFlight.Load()
		}
	}
	if own == 0 || own == len(servers) {
		return true // there is no choice
	}
	if float64(out) >= affinityBlackout*float64(own) {
		return false
	}
	part := float64(concurrency) / float64(len(servers))
	return float64(busy) < affinityLoad*part*float64(own-out)
}

// instances appends the servers of the route's VIP, those of the own zone first
// as long as these can do the work.
func (s *Server) instances(ex *Exchange, out []server) []server {
	at := len(out)
	v := s.view(ex.Route.VIP)
	if ex.callsGRPC() {
		out = append(out, v.callees...)
	} else {
		out = append(out, v.servers...)
	}
	if mine := out[at:]; !affinity(mine, ex.now(), s.settings.concurrency.Load()) {
		for i := range mine {
			mine[i].rank = 0
		}
	}
	return out
}

// Retries of a VIP take from a budget: every request adds a part of a token,
// every second adds one, and a retry costs one. When many requests fail, few
// are tried again.
const (
	retryToken    = 1000
	retryPart     = retryToken / 5
	retryFirst    = 10 * retryToken
	retryMost     = 100 * retryToken
	retryEveryNS  = int64(time.Second)
	retryPerEvery = retryToken
)

// budget is the retries that a VIP may still have.
type budget struct {
	spent    atomic.Int64 // tokens in thousandths, below retryFirst
	filled   atomic.Int64 // Unix nanoseconds up to which seconds have been added
	withheld atomic.Uint64
}

// earn adds a request's part.
func (b *budget) earn() { b.give(retryPart) }

func (b *budget) give(n int64) {
	if b.spent.Add(-n) < retryFirst-retryMost {
		b.spent.Store(retryFirst - retryMost)
	}
}

// take says whether there is a token for a retry.
func (b *budget) take(now time.Time) bool {
	at, was := now.UnixNano(), b.filled.Load()
	if was == 0 {
		b.filled.CompareAndSwap(0, at)
	} else if n := (at - was) / retryEveryNS; n > 0 && b.filled.CompareAndSwap(was, was+n*retryEveryNS) {
		b.give(min(n, retryMost/retryPerEvery) * retryPerEvery)
	}
	if b.spent.Add(retryToken) > retryFirst {
		b.spent.Add(-retryToken)
		b.withheld.Add(1)
		return false
	}
	return true
}

// adaptive is the limit that a guard finds, beneath the one that is set.
type adaptive struct {
	limiter atomic.Pointer[limit.Limiter]
	// of is what the limiter was made for.
	of atomic.Pointer[limit.Config]
}

// now returns the limit of requests at once, at most the one set.
func (a *adaptive) now(algorithm string, most int64) int64 {
	if algorithm == "" {
		return most
	}
	l := a.limiter.Load()
	if of := a.of.Load(); l == nil || of == nil || of.Algorithm != algorithm || of.Max != int(most) {
		// It starts at its most: a cold gateway sheds nothing.
		want := limit.Config{Algorithm: algorithm, Initial: int(most), Max: int(most), Min: min(adaptiveLeast, int(most))}
		made, err := limit.New(want)
		if err != nil { // the property's values have been checked
			return most
		}
		a.of.Store(&want)
		a.limiter.Store(made)
		l = made
	}
	return min(most, int64(l.Limit()))
}

// adaptiveLeast is what an API may always have, Gradient2's least.
const adaptiveLeast = 20

// learn works a try's time to an answer in.
func (a *adaptive) learn(start, now time.Time, inFlight int64, o outcome) {
	l := a.limiter.Load()
	if l == nil {
		return
	}
	as := limit.Ignored
	switch o {
	case answered:
		as = limit.Done
	case overloaded, late:
		as = limit.Dropped
	}
	l.Sample(time.Duration(now.UnixNano()), now.Sub(start), inFlight, as)
}

// tried works the end of a try into all that is known of its server and VIP.
func (s *Server) tried(c *call, srv server, r *reply, o outcome, start, now time.Time) {
	srv.load.tried(o, now.Sub(start), now, s.servers.eject)
	c.guard.adaptive.learn(start, now, c.guard.Load(), o)
	if r == nil {
		return
	}
	if text := r.resp.Header.Get(LoadHeader); text != "" {
		if u, ok := utilisation(text); ok {
			srv.load.Told(u, now)
		}
		r.resp.Header.Del(LoadHeader)
	}
}
