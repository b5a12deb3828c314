// Package playback decides whether a play is valid (member, plan, licensing of
// the title in the country, device, resolution, concurrent streams), knows the
// stream profiles of titles, and keeps sessions and bookmarks.
//
// It promises never to invent a permission: when a store is late it decides by
// a stale copy of what that store said, and says so, and where it has none it
// refuses as Unavailable. A refusal is never taken from a copy either while the
// store can be asked.
package playback

import (
	"context"
	"net"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/evcache"
	"github.com/flix-lab/flix/services/events"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/playback/playbackpb"
	"github.com/flix-lab/flix/services/resilience"
	"github.com/flix-lab/flix/services/rpc"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// DB is what the role needs of the relational store; sqldb.DB has it.
type DB interface {
	Plans(ctx context.Context) ([]sqldb.Plan, error)
	Member(ctx context.Context, id services.MemberID) (sqldb.Member, error)
	Title(ctx context.Context, id services.TitleID) (sqldb.Title, error)
}

// KV is what the role needs of the wide-column store; kv.Store has it.
type KV interface {
	Get(ctx context.Context, ns kv.Namespace, partition, sort string) (kv.Item, error)
	Query(ctx context.Context, ns kv.Namespace, partition string, r kv.Range) ([]kv.Item, string, error)
	Put(ctx context.Context, ns kv.Namespace, partition string, items ...kv.Item) error
	PutIf(ctx context.Context, ns kv.Namespace, partition string, cond kv.Condition, items ...kv.Item) error
	Delete(ctx context.Context, ns kv.Namespace, partition string, sorts ...string) error
}

// Events takes events for the pipeline; it does not wait for them to arrive.
type Events interface {
	Send(ctx context.Context, topic, key string, event any) error
}

// Deps is what an instance is made of.
type Deps struct {
	// RPC is the bound listener of the gRPC service.
	RPC net.Listener
	// Tel is the instance's instruments.
	Tel *telemetry.Telemetry
	// Timing holds the intervals.
	Timing topology.Timing
	// Region and Instance name the instance in what it produces.
	Region, Instance string
	// Commands is the instance's group of commands; nil makes one. An instance
	// whose clients have a group already has to share it.
	Commands *resilience.Group
	// DB is the relational store: members, plans, titles.
	DB DB
	// KV is the wide-column store: assets, sessions, bookmarks.
	KV KV
	// Cache is EVCache.
	Cache evcache.Cache
	// Events is the pipeline's producer.
	Events Events
}

// seenCapacity bounds the reports an instance remembers.
const seenCapacity = 4096

// Server is one instance of the playback service.
type Server struct {
	playbackpb.UnimplementedPlaybackServer

	d    Deps
	rpc  *rpc.Server
	seen *events.Seen // reports taken, and sessions ended

	plans     *evcache.Reader[[]sqldb.Plan]
	members   *evcache.Reader[membership]
	titles    *evcache.Reader[title]
	assets    *evcache.Reader[[]byte]
	bookmarks *evcache.Reader[bookmark]

	listSessions *resilience.Command[[]kv.Item]
	saveSession  *resilience.Command[struct{}]
	sendEvent    *resilience.Command[struct{}]
}

// New makes an instance; it calls nobody.
func New(d Deps) (*Server, error) {
	switch {
	case d.RPC == nil || d.Tel == nil:
		return nil, services.Errorf(services.Invalid, "playback: Deps without RPC or Tel")
	case d.DB == nil || d.KV == nil || d.Cache == nil || d.Events == nil:
		return nil, services.Errorf(services.Invalid, "playback: Deps without DB, KV, Cache or Events")
	}
	// Half of what a caller waits: a late store must leave time for the answer
	// that a stale copy gives.
	store := resilience.Options{Group: "kv", Timeout: d.Timing.RPCTimeout.D() / 2, MaxConcurrent: maxConcurrent, BreakerSleep: d.Timing.BreakerSleep.D()}
	g := d.Commands
	if g == nil {
		g = resilience.NewGroup(d.Tel, store)
	}
	c := evcache.NewCopies(d.Tel, g, d.Cache, d.Timing)
	rows := store
	rows.Group = "sql"
	s := &Server{
		d: d, seen: events.NewSeen(seenCapacity),
		plans:        evcache.NewReader[[]sqldb.Plan](c, "GetPlans", rows),
		members:      evcache.NewReader[membership](c, "GetMember", rows),
		titles:       evcache.NewReader[title](c, "GetTitle", rows),
		assets:       evcache.NewReader[[]byte](c, "GetProfiles", store),
		bookmarks:    evcache.NewReader[bookmark](c, "GetBookmark", store),
		listSessions: resilience.New[[]kv.Item](g, "ListSessions", store),
		saveSession:  resilience.New[struct{}](g, "SaveSession", store),
		sendEvent:    resilience.New[struct{}](g, "SendEvent", resilience.Options{Group: "kafka", Timeout: d.Timing.RPCTimeout.D() / 4, MaxConcurrent: maxConcurrent}),
	}
	s.rpc = rpc.New("playback", d.Tel)
	playbackpb.RegisterPlaybackServer(s.rpc, s)
	return s, nil
}

// maxConcurrent calls of one kind: a region's plays meet in few instances.
const maxConcurrent = 256

// Serve implements services.Unit.
func (s *Server) Serve(ctx context.Context) error {
	return s.rpc.Serve(ctx, s.d.Timing.RPCTimeout.D()/4, s.d.RPC)
}

// CacheKeys lists the copies this role keeps of a title, for whoever
// invalidates them when the title changes.
func CacheKeys(title string) []string { return []string{titleKey(title), assetKey(title)} }

func titleKey(id string) string  { return "playback/title/" + id }
func assetKey(id string) string  { return "playback/asset/" + id }
func memberKey(id string) string { return "playback/member/" + id }
