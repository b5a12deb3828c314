package signup

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/edge"
	"github.com/flix-lab/flix/services/evcache"
	"github.com/flix-lab/flix/services/resilience"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/topology"
)

// Members is what the role needs of the relational store; sqldb.DB has it.
type Members interface {
	Plans(ctx context.Context) ([]sqldb.Plan, error)
	MemberByEmail(ctx context.Context, email string) (sqldb.Member, error)
	CreateMember(ctx context.Context, m sqldb.Member, first sqldb.Entry) (sqldb.Member, error)
	Member(ctx context.Context, id services.MemberID) (sqldb.Member, error)
	ChangePlan(ctx context.Context, c sqldb.PlanChange) (m sqldb.Member, done bool, err error)
	AppendEntry(ctx context.Context, e sqldb.Entry) error
	Ledger(ctx context.Context, id services.MemberID) ([]sqldb.Entry, error)
}

// Events takes events for the pipeline; it does not wait for them to arrive.
type Events interface {
	Send(ctx context.Context, topic, key string, event any) error
}

// Deps is what an instance of the signup API is made of.
type Deps struct {
	// HTTP is the bound listener of the API, reached by gateways only.
	HTTP net.Listener
	// Tel is the instance's instruments.
	Tel *telemetry.Telemetry
	// Timing holds the intervals.
	Timing topology.Timing
	// Region and Instance name the instance in what it produces.
	Region, Instance string
	// Commands is the instance's group of commands; nil makes one. An instance
	// whose clients have a group already has to share it.
	Commands *resilience.Group
	// Members is the relational store.
	Members Members
	// Cache is EVCache.
	Cache evcache.Cache
	// Events is the pipeline's producer.
	Events Events
	// Key signs member tokens.
	Key token.Key
	// Document describes the whole public API, see edge.Document; nil serves
	// none.
	Document []byte
	// Iterations of PBKDF2 for new passwords; 0 is DefaultIterations. A lab
	// uses 1,000: its passwords protect nothing, and fleets of players sign in
	// on the cores that run the whole planet.
	Iterations int
}

// Server is one instance of the signup API.
type Server struct {
	d    Deps
	edge *edge.Edge

	plans       *evcache.Reader[[]sqldb.Plan]
	findMember  *resilience.Command[sqldb.Member]
	saveMember  *resilience.Command[sqldb.Member]
	getMember   *resilience.Command[sqldb.Member]
	setPlan     *resilience.Command[moved]
	charge      *resilience.Command[struct{}]
	ledger      *resilience.Command[[]sqldb.Entry]
	sendEvent   *resilience.Command[struct{}]
	hashing     chan struct{} // a place per core: hashing is all CPU
	memberships *prometheus.CounterVec
	// unknown stands in for the hash of an address that has none, so that its
	// refusal costs the same time.
	unknown hash
}

// maxConcurrent calls of one kind.
const maxConcurrent = 256

// New makes an instance; it calls nobody.
func New(d Deps) (*Server, error) {
	switch {
	case d.HTTP == nil || d.Tel == nil:
		return nil, services.Errorf(services.Invalid, "signup: Deps without HTTP or Tel")
	case d.Members == nil || d.Cache == nil || d.Events == nil:
		return nil, services.Errorf(services.Invalid, "signup: Deps without Members, Cache or Events")
	}
	if d.Iterations == 0 {
		d.Iterations = DefaultIterations
	}
	if d.Commands == nil {
		d.Commands = resilience.NewGroup(d.Tel, resilience.Options{Timeout: d.Timing.RPCTimeout.D(), BreakerSleep: d.Timing.BreakerSleep.D()})
	}
	store := resilience.Options{Group: "sql", Timeout: d.Timing.RPCTimeout.D(), MaxConcurrent: maxConcurrent}
	s := &Server{
		d: d, edge: edge.New("signup", d.Tel, d.Timing),
		plans:       evcache.NewReader[[]sqldb.Plan](evcache.NewCopies(d.Tel, d.Commands, d.Cache, d.Timing), "GetPlans", store),
		findMember:  resilience.New[sqldb.Member](d.Commands, "GetMemberByEmail", store),
		saveMember:  resilience.New[sqldb.Member](d.Commands, "CreateMember", store),
		getMember:   resilience.New[sqldb.Member](d.Commands, "GetMember", store),
		setPlan:     resilience.New[moved](d.Commands, "ChangePlan", store),
		charge:      resilience.New[struct{}](d.Commands, "AppendEntry", store),
		ledger:      resilience.New[[]sqldb.Entry](d.Commands, "GetLedger", store),
		sendEvent:   resilience.New[struct{}](d.Commands, "SendEvent", resilience.Options{Group: "kafka", Timeout: d.Timing.RPCTimeout.D() / 10, MaxConcurrent: maxConcurrent}),
		hashing:     make(chan struct{}, runtime.GOMAXPROCS(0)),
		memberships: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "signup_members_total", Help: "Sign-ups and sign-ins, by result."}, []string{"action", "result"}),
		unknown:     hash{iterations: d.Iterations, salt: make([]byte, saltBytes), key: make([]byte, keyBytes)},
	}
	d.Tel.Metrics.MustRegister(s.memberships)
	s.edge.Load(d.Commands.Utilisation)
	o := operations()
	s.edge.Handle(o.plans, s.listPlans)
	s.edge.Handle(o.signup, s.signup)
	s.edge.Handle(o.signin, s.signin)
	s.edge.HandleMember(o.account, s.account)
	s.edge.HandleMember(o.plan, s.changePlan)
	if d.Document != nil {
		s.edge.Handle(document(), func(*http.Request) (any, error) { return json.RawMessage(d.Document), nil })
	}
	return s, nil
}

// Serve implements services.Unit.
func (s *Server) Serve(ctx context.Context) error { return s.edge.Serve(ctx, s.d.HTTP) }

// token makes the answer to a sign-in or sign-up.
func (s *Server) token(m sqldb.Member, device string) SigninReply {
	now := time.Now()
	ttl := s.d.Timing.MemberTokenExpiry.D()
	return SigninReply{
		Token: s.d.Key.Sign(token.Member, token.Claims{
			Member: string(m.ID), Plan: m.Plan, Country: m.Country, Device: device,
		}, now, ttl),
		Expires: now.Add(ttl).Truncate(time.Second).UTC(),
		Member:  string(m.ID), Name: m.Name, Plan: m.Plan, Country: m.Country,
	}
}
