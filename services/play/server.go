package play

import (
	"context"
	"net"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/edge"
	"github.com/flix-lab/flix/services/evcache"
	"github.com/flix-lab/flix/services/license/licensepb"
	"github.com/flix-lab/flix/services/media"
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
	Cache evcache.Cache
	// Key signs appliance URLs and reads licences.
	Key token.Key
	// Dial opens connections to appliances, for titles' indexes; nil dials
	// directly.
	Dial services.DialFunc
}

// maxConcurrent calls of one kind.
const maxConcurrent = 256

// Server is one instance of the play API.
type Server struct {
	d    Deps
	edge *edge.Edge

	authorize *resilience.Command[*playbackpb.AuthorizeReply]
	profiles  *evcache.Reader[*playbackpb.ProfilesReply]
	bookmark  *resilience.Command[*playbackpb.BookmarkReply]
	report    *resilience.Command[struct{}]
	license   *resilience.Command[*licensepb.IssueReply]
	release   *resilience.Command[struct{}]
	rank      *resilience.Command[*steeringpb.RankReply]
	ranks     *ranks
	suspect   *resilience.Command[struct{}]
	starts    *prometheus.CounterVec
	stock     *stock
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
	to := func(dependency string) resilience.Options {
		o := call
		o.Group = dependency
		return o
	}
	s := &Server{
		d: d, edge: edge.New("play", d.Tel, d.Timing), ranks: newRanks(rankCapacity),
		authorize: resilience.New[*playbackpb.AuthorizeReply](g, "AuthorizePlay", to("playback")),
		profiles:  evcache.NewReader[*playbackpb.ProfilesReply](evcache.NewCopies(d.Tel, g, d.Cache, d.Timing), "GetProfiles", to("playback")),
		bookmark:  resilience.New[*playbackpb.BookmarkReply](g, "GetBookmark", to("playback")),
		report:    resilience.New[struct{}](g, "ReportPlay", to("playback")),
		license:   resilience.New[*licensepb.IssueReply](g, "GetLicense", to("license")),
		release:   resilience.New[struct{}](g, "ReleaseLicense", to("license")),
		rank:      resilience.New[*steeringpb.RankReply](g, "RankAppliances", to("steering")),
		suspect:   resilience.New[struct{}](g, "ReportSuspect", to("cachecontrol")),
		starts:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "play_starts_total", Help: "Plays asked for, by the reason they were refused with, or ok."}, []string{"result"}),
	}
	d.Tel.Metrics.MustRegister(s.starts)
	s.edge.Load(g.Utilisation)
	s.stock = newStock(d, resilience.New[media.Index](g, "ReadIndex", to("oca")))
	o := operations()
	s.edge.HandleMember(o.start, s.start)
	s.edge.HandleMember(o.renew, s.renew)
	s.edge.HandleMember(o.report, s.takeReport)
	s.edge.HandleMember(o.suspect, s.takeSuspect)
	s.edge.Handle(o.dash, s.dash)
	s.edge.Handle(o.hls, s.hls)
	s.edge.Handle(o.steer, s.steer)
	s.edge.Handle(o.events, s.events)
	return s, nil
}

// Serve implements services.Unit.
func (s *Server) Serve(ctx context.Context) error {
	defer s.stock.indexes.client.CloseIdleConnections()
	return s.edge.Serve(ctx, s.d.HTTP)
}

// CacheKeys lists the copies this role keeps of a title, for whoever
// invalidates them when the title changes.
func CacheKeys(title string) []string { return []string{profilesKey(title)} }

func profilesKey(title string) string { return "play/profiles/" + title }
