// Package license issues streaming licences: signed tokens bound to one
// session, one title, one device and one country, for as long as the timing
// says. A licence is for one stream: it can be renewed by its own session and
// is over once it is released.
//
// The role keeps nothing that a play depends on, so any instance renews what
// another issued. What it remembers of released licences is its own and lost
// with it; a licence that outlives that memory still ends by its expiry.
package license

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/license/licensepb"
	"github.com/flix-lab/flix/services/rpc"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/topology"
)

// PropertyFail set to "on" makes every call fail with Internal: a licence
// service that is up and broken, which a health check does not see.
const PropertyFail = "license.fail"

// Reasons of the role's own errors.
const (
	// ReasonBinding: the licence was made for another session.
	ReasonBinding = "license_binding"
	// ReasonReleased: the licence has been released.
	ReasonReleased = "license_released"
)

// releasedCapacity bounds the released licences an instance remembers.
const releasedCapacity = 4096

// Deps is what an instance is made of.
type Deps struct {
	// RPC is the bound listener of the gRPC service.
	RPC net.Listener
	// Tel is the instance's instruments; it watches PropertyFail.
	Tel *telemetry.Telemetry
	// Timing holds LicenseDuration and RPCTimeout.
	Timing topology.Timing
	// Region and Instance name the instance.
	Region, Instance string
	// Key signs licences.
	Key token.Key
	// Clock is the wall clock; nil is time.Now.
	Clock func() time.Time
}

// Server is one instance of the licence service.
type Server struct {
	licensepb.UnimplementedLicenseServer

	d        Deps
	rpc      *rpc.Server
	fail     atomic.Bool
	released *recent
	total    *prometheus.CounterVec
}

// New makes an instance; it calls nobody.
func New(d Deps) (*Server, error) {
	if d.RPC == nil || d.Tel == nil {
		return nil, services.Errorf(services.Invalid, "license: Deps without RPC or Tel")
	}
	if d.Clock == nil {
		d.Clock = time.Now
	}
	s := &Server{
		d: d, released: newRecent(releasedCapacity),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "license_issued_total", Help: "Licences by what happened to them: issued, renewed, released or denied."}, []string{"result"}),
	}
	d.Tel.Metrics.MustRegister(s.total)
	d.Tel.Properties.Watch(func(name, value string) {
		if name == PropertyFail {
			s.fail.Store(value == "on")
		}
	})
	s.rpc = rpc.New("license", d.Tel)
	licensepb.RegisterLicenseServer(s.rpc, s)
	return s, nil
}

// Serve implements services.Unit.
func (s *Server) Serve(ctx context.Context) error {
	return s.rpc.Serve(ctx, s.d.Timing.RPCTimeout.D()/4, s.d.RPC)
}

// Issue makes a licence. Whether the play is allowed is playback's decision,
// taken before; what is not named cannot be bound, and is refused.
func (s *Server) Issue(ctx context.Context, r *licensepb.IssueRequest) (*licensepb.IssueReply, error) {
	if err := s.broken(); err != nil {
		return nil, err
	}
	for _, f := range []struct{ name, value string }{
		{"session_id", r.GetSessionId()}, {"member_id", r.GetMemberId()}, {"title_id", r.GetTitleId()},
		{"device", r.GetDevice()}, {"country", r.GetCountry()},
	} {
		if f.value == "" {
			return nil, services.Errorf(services.Invalid, "license.Issue: %s: a licence is bound to it, and it is empty", f.name)
		}
	}
	s.total.WithLabelValues("issued").Inc()
	return s.sign(token.Claims{
		Session: r.GetSessionId(), Member: r.GetMemberId(), Title: r.GetTitleId(), Device: r.GetDevice(),
		Country: r.GetCountry(), MaxHeight: int(r.GetMaxHeight()), Trace: telemetry.TraceID(ctx),
	}), nil
}

// Renew makes a fresh licence of one that is still valid, for its own session.
func (s *Server) Renew(_ context.Context, r *licensepb.RenewRequest) (*licensepb.IssueReply, error) {
	if err := s.broken(); err != nil {
		return nil, err
	}
	c, err := s.verify(r.GetLicense(), r.GetSessionId())
	if err == nil && s.released.has(r.GetLicense()) {
		err = services.Errorf(services.Denied, "the licence has been released").WithReason(ReasonReleased).WithRemedy("start the play again")
	}
	if err != nil {
		s.total.WithLabelValues("denied").Inc()
		return nil, services.Wrap("license.Renew", err)
	}
	s.total.WithLabelValues("renewed").Inc()
	return s.sign(c), nil
}

// Release ends a licence; a second time changes nothing. One that has expired
// is over already.
func (s *Server) Release(_ context.Context, r *licensepb.ReleaseRequest) (*licensepb.ReleaseReply, error) {
	if err := s.broken(); err != nil {
		return nil, err
	}
	_, err := s.verify(r.GetLicense(), r.GetSessionId())
	switch {
	case services.ReasonOf(err) == "token_expired":
		return &licensepb.ReleaseReply{}, nil
	case err != nil:
		return nil, services.Wrap("license.Release", err)
	}
	if s.released.add(r.GetLicense()) {
		s.total.WithLabelValues("released").Inc()
	}
	return &licensepb.ReleaseReply{}, nil
}

func (s *Server) verify(license, session string) (token.Claims, error) {
	c, err := s.d.Key.Verify(token.License, license, s.d.Clock())
	if err != nil {
		return c, err
	}
	if c.Session != session {
		return c, services.Errorf(services.Denied, "the licence was made for another session").WithReason(ReasonBinding)
	}
	return c, nil
}

func (s *Server) sign(c token.Claims) *licensepb.IssueReply {
	now, ttl := s.d.Clock(), s.d.Timing.LicenseDuration.D()
	return &licensepb.IssueReply{License: s.d.Key.Sign(token.License, c, now, ttl), ExpiresUnixMs: now.Add(ttl).Truncate(time.Second).UnixMilli()}
}

func (s *Server) broken() error {
	if !s.fail.Load() {
		return nil
	}
	return services.Errorf(services.Internal, "license: made to fail by the property %s", PropertyFail).WithRemedy("unset the property")
}
