package steering

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/steering/steeringpb"
)

// most is how many appliances a client is told of.
const most = 10

// class orders sites by how the client's network reaches them.
type class uint8

const (
	embedded class = iota // inside the client's ISP
	peering               // at an exchange that announces the client's prefix
	transit               // at an exchange that does not: reached through others
)

// candidate is an appliance on its way through the filters.
type candidate struct {
	app    *appliance
	health *health
	class  class
	bits   int           // of the longest announced prefix that covers the client
	far    time.Duration // from the client's region
	score  float64
	struck bool
}

// near reports whether both are equally near to the client.
func (c *candidate) near(o *candidate) bool {
	return c.class == o.class && c.bits == o.bits && c.far == o.far
}

// query is one request with what its filters read.
type query struct {
	title   *title
	exclude []string
	now     time.Time
	expiry  time.Duration
	// lenient: a stale report is no reason to strike.
	lenient bool
	// decisions are recorded when explain is set.
	explain   bool
	decisions []*pb.Decision
}

// filter is one link of the chain.
type filter struct {
	name string
	keep func(q *query, c *candidate) bool
	why  func(q *query, c *candidate) string
}

// The chain, after the routes have said who is reachable. Content is last but
// one, so that a miss is blamed on health only where the content was there.
var chain = [...]filter{
	{"healthy",
		func(_ *query, c *candidate) bool { return c.health.ok },
		func(_ *query, c *candidate) string { return c.health.reason }},
	{"fresh",
		func(q *query, c *candidate) bool { return q.lenient || q.now.Sub(c.health.heard) <= q.expiry },
		func(q *query, c *candidate) string {
			return fmt.Sprintf("report is %v old, %v allowed", q.now.Sub(c.health.heard).Round(time.Millisecond), q.expiry)
		}},
	{"content",
		func(q *query, c *candidate) bool { return q.title.holders.has(c.app.slot) },
		func(q *query, _ *candidate) string {
			return fmt.Sprintf("not every file of version %d", q.title.version)
		}},
	{"exclude",
		func(q *query, c *candidate) bool { return !slices.Contains(q.exclude, c.app.id) },
		func(*query, *candidate) string { return "the client found it broken" }},
}

// Rank implements steeringpb.SteeringServer.
func (s *Server) Rank(_ context.Context, req *pb.RankRequest) (*pb.RankReply, error) {
	addr, err := netip.ParseAddr(req.GetClientIp())
	if err != nil {
		return nil, services.Errorf(services.Invalid, "steering.Rank: client_ip %q is no IP address", req.GetClientIp())
	}
	if !s.ready.Load() {
		s.metrics.decided(kindNone, resultNotReady)
		return nil, services.Errorf(services.Unavailable, "steering.Rank: nothing has been heard from cache control yet").
			WithRemedy("try again in a moment")
	}
	v, ok := s.titles.Load(req.GetTitleId())
	if !ok {
		s.metrics.decided(kindNone, resultNoReplica)
		return nil, services.Errorf(services.NotFound, "steering.Rank: no appliance knows the title %s", req.GetTitleId()).
			WithReason(services.ReasonNoReplica)
	}
	q := &query{title: v.(*title), exclude: req.GetExclude(), now: time.Now(), expiry: s.expiry, explain: req.GetExplain()}
	n := int(req.GetMax())
	if n <= 0 || n > most {
		n = most
	}
	return s.rank(q, addr.Unmap().WithZone(""), req.GetTitleId(), n)
}

// rank gathers the candidates, filters, orders and spreads them.
func (s *Server) rank(q *query, addr netip.Addr, titleID string, n int) (*pb.RankReply, error) {
	var buf [48]candidate
	pool := s.gather(q, buf[:0], addr)
	result := resultOK
	left := q.filter(pool)
	if left == 0 && !s.connected.Load() {
		// Cache control is away, so no report can be fresh. Stale ones are
		// better than no video; the result and the decisions say so.
		q.lenient, result = true, resultStale
		left = q.filter(pool)
	}
	s.miss(q, pool)
	if left == 0 {
		return nil, s.none(q, titleID)
	}
	pool = slices.DeleteFunc(pool, func(c candidate) bool { return c.struck })
	key := clientKey(addr, titleID)
	for i := range pool {
		pool[i].score = pool[i].draw(key)
	}
	slices.SortFunc(pool, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(b.bits, a.bits), cmp.Compare(a.far, b.far),
			cmp.Compare(b.score, a.score), cmp.Compare(a.app.id, b.app.id))
	})
	s.metrics.decided(kindOf(&pool[0]), result)
	return &pb.RankReply{Candidates: candidates(pool, n), Decisions: q.decisions, Version: q.title.version}, nil
}

// candidates renders the best n.
func candidates(pool []candidate, n int) []*pb.Candidate {
	n = min(n, len(pool))
	rows, out := make([]pb.Candidate, n), make([]*pb.Candidate, n)
	rank := uint32(0)
	for i := range n {
		c := &pool[i]
		if i > 0 && !c.near(&pool[i-1]) {
			rank++
		}
		r := &rows[i]
		r.Appliance, r.Site, r.Kind, r.Region, r.Url, r.Rank = c.app.id, c.app.site, c.app.kind, c.app.region, c.app.url, rank
		out[i] = r
	}
	return out
}

// gather collects who may serve the client: everybody who announces a prefix
// that covers it, then every other exchange.
func (s *Server) gather(q *query, pool []candidate, addr netip.Addr) []candidate {
	t, p := s.table.Load(), s.places.Load()
	for prefix, apps := range t.routes.Supernets(netip.PrefixFrom(addr, addr.BitLen())) {
		for _, a := range apps {
			if within(pool, a) {
				continue // by a longer prefix
			}
			c := candidate{app: a, health: a.health.Load(), class: peering, bits: prefix.Bits()}
			if a.isp {
				c.class = embedded
			}
			pool = append(pool, c)
			if q.explain {
				q.note(a, "prefix", false, "announces "+prefix.String())
			}
		}
	}
	announced := len(pool)
	region := s.region(p, addr, pool)
	for i := range pool {
		pool[i].far = p.far(region, pool[i].app.region)
	}
	for _, a := range t.exchanges {
		if !within(pool[:announced], a) {
			pool = append(pool, candidate{app: a, health: a.health.Load(), class: transit, far: p.far(region, a.region)})
			q.note(a, "prefix", false, "an exchange, by transit")
		}
	}
	if q.explain {
		for _, a := range t.isps {
			if !within(pool[:announced], a) {
				q.note(a, "prefix", true, "inside an ISP that is not the client's")
			}
		}
	}
	return pool
}

func within(pool []candidate, a *appliance) bool {
	for i := range pool {
		if pool[i].app == a {
			return true
		}
	}
	return false
}

// filter strikes candidates and returns how many are left.
func (q *query) filter(pool []candidate) (left int) {
	for i := range pool {
		c := &pool[i]
		c.struck = false
		for k := range chain {
			f := &chain[k]
			if c.struck = !f.keep(q, c); c.struck {
				if q.explain {
					q.note(c.app, f.name, true, f.why(q, c))
				}
				break
			}
			q.note(c.app, f.name, false, "")
		}
		if !c.struck {
			left++
		}
	}
	return left
}

func (q *query) note(a *appliance, name string, struck bool, why string) {
	if q.explain {
		q.decisions = append(q.decisions, &pb.Decision{Appliance: a.id, Filter: name, Struck: struck, Why: why})
	}
}

// miss counts a client that none of its nearest appliances may serve, and
// whether health or content was to blame.
func (s *Server) miss(q *query, pool []candidate) {
	best := -1
	for i := range pool {
		c := &pool[i]
		if best < 0 || cmp.Or(cmp.Compare(c.class, pool[best].class), cmp.Compare(pool[best].bits, c.bits), cmp.Compare(c.far, pool[best].far)) < 0 {
			best = i
		}
	}
	if best < 0 || pool[best].class == transit {
		return
	}
	cause := missContent
	for i := range pool {
		c := &pool[i]
		if !c.near(&pool[best]) {
			continue
		}
		if !c.struck {
			return
		}
		if q.title.holders.has(c.app.slot) {
			cause = missHealth
		}
	}
	s.metrics.missed(cause, pool[best].class)
}

// none is the error of a ranking without a result.
func (s *Server) none(q *query, titleID string) error {
	if q.title.holders.empty() {
		s.metrics.decided(kindNone, resultNoReplica)
		return services.Errorf(services.NotFound, "steering.Rank: no appliance holds all of %s, version %d", titleID, q.title.version).
			WithReason(services.ReasonNoReplica).WithRemedy("wait until its fill is done: flix fill status")
	}
	s.metrics.decided(kindNone, resultUnhealthy)
	return services.Errorf(services.Unavailable, "steering.Rank: of the appliances that hold %s none is healthy and not excluded", titleID).
		WithReason(services.ReasonNoReplica).WithRemedy("look at the appliances: flix status")
}
