package play

import (
	"context"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/license/licensepb"
	"github.com/flix-lab/flix/services/playback/playbackpb"
	"github.com/flix-lab/flix/services/resilience"
	"github.com/flix-lab/flix/services/steering/steeringpb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/topology"
)

// Deps is what an instance of the play API is made of.
type Deps struct {
	// HTTP is the bound listener of the API, reached by gateways only.
	HTTP net.Listener
	// Tel is the instance's instruments.
	Tel *telemetry.Telemetry
	// Timing holds the intervals.
	Timing topology.Timing
	// Region is named in every answer.
	Region string
	// Instance names the instance.
	Instance string
	// Commands is the instance's group of commands; nil makes one. An instance
	// whose clients have a group already has to share it.
	Commands *resilience.Group
	// Playback authorises plays and keeps sessions.
	Playback playbackpb.PlaybackClient
	// License issues licences.
	License licensepb.LicenseClient
	// Steering ranks appliances.
	Steering steeringpb.SteeringClient
	// CacheControl hears of appliances that sent wrong bytes.
	CacheControl cachecontrolpb.CacheControlClient
	// Cache is EVCache; stream profiles are kept there.
	Cache Cache
	// Key signs appliance URLs and reads licences.
	Key token.Key
}

// maxConcurrent calls of one kind.
const maxConcurrent = 256

// Server is one instance of the play API.
type Server struct {
	d    Deps
	edge *edge

	authorize *resilience.Command[*playbackpb.AuthorizeReply]
	profiles  *reader[*playbackpb.ProfilesReply]
	bookmark  *resilience.Command[*playbackpb.BookmarkReply]
	report    *resilience.Command[struct{}]
	license   *resilience.Command[*licensepb.IssueReply]
	release   *resilience.Command[struct{}]
	rank      *resilience.Command[*steeringpb.RankReply]
	suspect   *resilience.Command[struct{}]
	starts    *prometheus.CounterVec
}

// New makes an instance; it calls nobody.
func New(d Deps) (*Server, error) {
	switch {
	case d.HTTP == nil || d.Tel == nil:
		return nil, services.Errorf(services.Invalid, "play: Deps without HTTP or Tel")
	case d.Playback == nil || d.License == nil || d.Steering == nil || d.CacheControl == nil || d.Cache == nil:
		return nil, services.Errorf(services.Invalid, "play: Deps without Playback, License, Steering, CacheControl or Cache")
	}
	// Every call here may be made twice without harm.
	call := resilience.Options{Timeout: d.Timing.RPCTimeout.D(), MaxConcurrent: maxConcurrent, BreakerSleep: d.Timing.BreakerSleep.D(), Retries: 1}
	g := d.Commands
	if g == nil {
		g = resilience.NewGroup(d.Tel, call)
	}
	s := &Server{
		d: d, edge: newEdge("play", d.Tel, d.Timing),
		authorize: resilience.New[*playbackpb.AuthorizeReply](g, "AuthorizePlay", call),
		profiles:  newReader[*playbackpb.ProfilesReply](newCopies(d.Tel, g, d.Cache, d.Timing), g, "GetProfiles", call),
		bookmark:  resilience.New[*playbackpb.BookmarkReply](g, "GetBookmark", call),
		report:    resilience.New[struct{}](g, "ReportPlay", call),
		license:   resilience.New[*licensepb.IssueReply](g, "GetLicense", call),
		release:   resilience.New[struct{}](g, "ReleaseLicense", call),
		rank:      resilience.New[*steeringpb.RankReply](g, "RankAppliances", call),
		suspect:   resilience.New[struct{}](g, "ReportSuspect", call),
		starts:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "play_starts_total", Help: "Plays asked for, by the reason they were refused with, or ok."}, []string{"result"}),
	}
	d.Tel.Metrics.MustRegister(s.starts)
	s.route("POST "+PathStart, s.start)
	s.route("POST "+PathRenew, s.renew)
	s.route("POST "+PathReport, s.takeReport)
	s.route("POST "+PathSuspect, s.takeSuspect)
	return s, nil
}

// Serve implements services.Unit.
func (s *Server) Serve(ctx context.Context) error { return s.edge.serve(ctx, s.d.HTTP) }

// CacheKeys lists the copies this role keeps of a title, for whoever
// invalidates them when the title changes.
func CacheKeys(title string) []string { return []string{profilesKey(title)} }

func profilesKey(title string) string { return "play/profiles/" + title }

// caller is who asks, in the gateway's words.
type caller struct {
	member, plan, country, device, clientIP, isp string
}

// route adds a route that only a member may use. The gateway has checked the
// token and stripped these headers from outside; the API is not reachable past
// it.
func (s *Server) route(pattern string, answer func(*http.Request, caller) (any, error)) {
	s.edge.handle(pattern, func(r *http.Request) (any, error) {
		h := r.Header.Get
		c := caller{h("X-Flix-Member"), h("X-Flix-Plan"), h("X-Flix-Country"), h("X-Flix-Device"), h("X-Flix-Client-Ip"), h("X-Flix-ISP")}
		if c.member == "" {
			return nil, services.Errorf(services.Denied, "play: no member is signed in").WithReason("no_member").WithRemedy("sign in")
		}
		return answer(r, c)
	})
}
