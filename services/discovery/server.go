package discovery

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/edge"
	"github.com/flix-lab/flix/services/evcache"
	"github.com/flix-lab/flix/services/recommend/recommendpb"
	"github.com/flix-lab/flix/services/resilience"
	"github.com/flix-lab/flix/services/search"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// Titles is what the role needs of the relational store; sqldb.DB has it.
type Titles interface {
	Title(ctx context.Context, id services.TitleID) (sqldb.Title, error)
	Titles(ctx context.Context) ([]sqldb.Title, error)
}

// Index is what the role needs of search; search.Index has it.
type Index interface {
	Search(ctx context.Context, query string, limit int) ([]search.Hit, error)
}

// Deps is what an instance of the discovery API is made of.
type Deps struct {
	// HTTP is the bound listener of the API, reached by gateways only.
	HTTP net.Listener
	// Tel is the instance's instruments.
	Tel *telemetry.Telemetry
	// Timing holds the intervals.
	Timing topology.Timing
	// Region and Instance name the instance.
	Region, Instance string
	// Commands is the instance's group of commands; nil makes one. An instance
	// whose clients have a group already has to share it.
	Commands *resilience.Group
	// Titles is the relational store.
	Titles Titles
	// Index is the title search.
	Index Index
	// Cache is EVCache.
	Cache evcache.Cache
	// Recommend builds the rows of the home page.
	Recommend recommendpb.RecommendClient
}

const (
	// maxConcurrent calls of one kind.
	maxConcurrent = 256
	// collapseDelay is how long the question for a title that the copy of the
	// catalogue lacks waits for others, which come in bursts when one is new.
	collapseDelay = 2 * time.Millisecond
)

// Server is one instance of the discovery API.
type Server struct {
	d        Deps
	edge     *edge.Edge
	commands *resilience.Group

	catalogue *evcache.Reader[[]sqldb.Title]
	getTitle  *resilience.Collapser[string, sqldb.Title]
	search    *resilience.Command[[]search.Hit]
	pages     *evcache.Reader[[]*recommendpb.Row]
	// last is the catalogue as this instance saw it last, for when the store
	// and EVCache are both out of reach.
	last atomic.Pointer[[]sqldb.Title]
}

// New makes an instance; it calls nobody.
func New(d Deps) (*Server, error) {
	switch {
	case d.HTTP == nil || d.Tel == nil:
		return nil, services.Errorf(services.Invalid, "discovery: Deps without HTTP or Tel")
	case d.Titles == nil || d.Index == nil || d.Cache == nil || d.Recommend == nil:
		return nil, services.Errorf(services.Invalid, "discovery: Deps without Titles, Index, Cache or Recommend")
	}
	rpc := d.Timing.RPCTimeout.D()
	call := resilience.Options{Group: "recommend", Timeout: rpc, MaxConcurrent: maxConcurrent, BreakerSleep: d.Timing.BreakerSleep.D(), Retries: 1}
	// Half of it for stores, so that a stale answer still comes in time.
	store := resilience.Options{Group: "sql", Timeout: rpc / 2, MaxConcurrent: maxConcurrent}
	index := store
	index.Group = "search"
	g := d.Commands
	if g == nil {
		g = resilience.NewGroup(d.Tel, call)
	}
	copies := evcache.NewCopies(d.Tel, g, d.Cache, d.Timing)
	s := &Server{
		d: d, edge: edge.New("discovery", d.Tel, d.Timing),
		catalogue: evcache.NewReader[[]sqldb.Title](copies, "GetTitles", store),
		search:    resilience.New[[]search.Hit](g, "SearchTitles", index),
		pages:     evcache.NewReader[[]*recommendpb.Row](copies, "GetRows", call),
	}
	s.getTitle = resilience.NewCollapser(g, "GetTitle", resilience.CollapserOptions{Options: store, Delay: collapseDelay}, s.fetch)
	s.commands = g
	s.edge.Load(g.Utilisation)
	o := operations()
	s.edge.HandleMember(o.titles, s.listTitles)
	s.edge.HandleMember(o.title, s.oneTitle)
	s.edge.HandleMember(o.search, s.searchTitles)
	s.edge.HandleMember(o.rows, s.rows)
	return s, nil
}

// Serve implements services.Unit.
func (s *Server) Serve(ctx context.Context) error {
	defer s.commands.Wait()
	return s.edge.Serve(ctx, s.d.HTTP)
}

// CacheKeys lists the copies this role keeps of the catalogue, for whoever
// invalidates them when a title changes.
func CacheKeys() []string { return []string{catalogueKey} }

const catalogueKey = "discovery/catalogue"
