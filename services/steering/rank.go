package steering

import (
	"context"
	"net/netip"
	"time"

	"github.com/flix-lab/flix/services"
	ccpb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	pb "github.com/flix-lab/flix/services/steering/steeringpb"
)

// Rank implements steeringpb.SteeringServer.
func (s *Server) Rank(_ context.Context, req *pb.RankRequest) (*pb.RankReply, error) {
	q, err := s.query("steering.Rank", req)
	if err != nil {
		if services.KindOf(err) == services.Unavailable {
			s.metrics.decided(kindNone, resultNotReady)
		}
		return nil, err
	}
	t := s.table.Load()
	if req.GetExplain() {
		q.log = &explanation{}
	}
	result, ok := s.decide(&q, t, req.GetTitleId())
	s.miss(&q)
	s.missed(&q, t, req.GetTitleId())
	if !ok {
		result, err := s.none(&q, req.GetTitleId())
		s.metrics.decided(kindNone, result)
		return nil, err
	}
	s.metrics.decided(t.kindOf(&q.picks[0]), result)
	s.sample.add(q.addr, req.GetTitleId())
	reply := t.reply(&q)
	if q.log != nil {
		reply.Decisions = q.log.decisions(t, &q)
	}
	return reply, nil
}

// query reads a request, once something is known to answer it with; Unavailable
// before that. It counts nothing.
func (s *Server) query(op string, req *pb.RankRequest) (query, error) {
	addr, err := netip.ParseAddr(req.GetClientIp())
	if err != nil {
		return query{}, services.Errorf(services.Invalid, "%s: client_ip %q is no IP address", op, req.GetClientIp())
	}
	if !s.ready.Load() {
		return query{}, services.Errorf(services.Unavailable, "%s: nothing has been heard from cache control yet", op).
			WithRemedy("try again in a moment")
	}
	q := query{addr: addr.Unmap().WithZone(""), exclude: req.GetExclude(), nowMS: time.Now().UnixMilli(), want: int(req.GetMax())}
	if q.want <= 0 || q.want > most {
		q.want = most
	}
	return q, nil
}

// reply is the answer to a query that found somebody.
func (t *table) reply(q *query) *pb.RankReply {
	return &pb.RankReply{Candidates: t.candidates(q), Version: q.title.version, Unsettled: q.unsettled || q.missed}
}

// decide looks the title up and ranks; ok is false if nobody may serve it. It
// counts nothing.
func (s *Server) decide(q *query, t *table, titleID string) (r result, ok bool) {
	// First, and with nothing in between: the processor fetches the title, which
	// does not depend on the routes, while it waits for them.
	c := t.routes.find(q.addr)
	hash := fnv(titleID)
	if q.title = s.titles.load(titleID, hash); q.title == nil {
		return resultNoReplica, false
	}
	q.key = clientKey(q.addr, hash)
	p := s.places.Load()
	r = resultOK
	t.decide(q, c, p, s.expiry.Milliseconds())
	if q.n == 0 && (!s.connected.Load() || q.nowMS < s.settled.Load() || t.silent(q.nowMS-s.expiry.Milliseconds())) {
		// Cache control is away, or was until now, or it has heard of nobody at all:
		// no report can be fresh. Stale ones are better than no video; the result and
		// the decisions say so.
		q.lenient, r = true, resultStale
		t.decide(q, c, p, s.expiry.Milliseconds())
	}
	if q.n == 0 && len(q.exclude) > 0 {
		// What a client found broken may be well again, and is not broken for
		// everybody: it is better than no video, and than a refusal that looks
		// like a failure of steering's own.
		q.forgiving, r = true, resultExcluded
		t.decide(q, c, p, s.expiry.Milliseconds())
	}
	return r, q.n > 0
}

// candidates renders the picks.
func (t *table) candidates(q *query) []*pb.Candidate {
	rows, out := make([]pb.Candidate, q.n), make([]*pb.Candidate, q.n)
	rank := uint32(0)
	for i := range q.n {
		x := &q.picks[i]
		if i > 0 && x.tier != q.picks[i-1].tier {
			rank++
		}
		a, r := t.apps[x.slot], &rows[i]
		r.Appliance, r.Site, r.Kind, r.Region, r.Url, r.PlainUrl, r.FillUrl, r.Rank = a.id, a.site, a.kind, a.region, a.url, a.plainURL, a.fillURL, rank
		out[i] = r
	}
	return out
}

// miss counts a client that none of its nearest appliances may serve, and
// whether health or content was to blame.
func (s *Server) miss(q *query) {
	if !q.missed || q.nearest == transit {
		return
	}
	cause := missContent
	if q.onHealth {
		cause = missHealth
	}
	s.metrics.missed(cause, q.nearest)
}

// none is the error of a ranking without a result, and what to count it as.
func (s *Server) none(q *query, titleID string) (result, error) {
	if q.title == nil {
		if w, ok := s.waiting.Load(titleID); ok {
			return resultNotLive, notLive(w.(*ccpb.WaitingTitle))
		}
	}
	switch {
	case q.title == nil:
		return resultNoReplica, services.Errorf(services.NotFound, "steering.Rank: no appliance knows the title %s", titleID).
			WithReason(services.ReasonNoReplica)
	case q.title.holders.empty():
		return resultNoReplica, services.Errorf(services.NotFound, "steering.Rank: no appliance holds all of %s, version %d", titleID, q.title.version).
			WithReason(services.ReasonNoReplica).WithRemedy("wait until its fill is done: flix fill status")
	}
	return resultUnhealthy, services.Errorf(services.Unavailable, "steering.Rank: of the appliances that hold %s none is healthy", titleID).
		WithReason(services.ReasonNoReplica).WithRemedy("look at the appliances: flix lab status -o wide")
}
