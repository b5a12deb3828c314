// Package recommend builds the rows of a member's home page: what they have
// begun, what is popular in the region, what is like what they watch, what is
// new.
//
// It promises a page whenever the catalogue is known at all: sources that are
// late cost their own row, and with all of them late the page is the catalogue
// by name. Such a page says that it is stale. It never lists a title that is
// not live or not licensed in the member's country.
package recommend

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/evcache"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/recommend/recommendpb"
	"github.com/flix-lab/flix/services/resilience"
	"github.com/flix-lab/flix/services/rpc"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// Titles is what the role needs of the relational store; sqldb.DB has it.
type Titles interface {
	Titles(ctx context.Context) ([]sqldb.Title, error)
}

// KV is what the role needs of the wide-column store; kv.Store has it.
type KV interface {
	Query(ctx context.Context, ns kv.Namespace, partition string, r kv.Range) ([]kv.Item, string, error)
}

// Deps is what an instance is made of.
type Deps struct {
	// RPC is the bound listener of the gRPC service.
	RPC net.Listener
	// Tel is the instance's instruments.
	Tel *telemetry.Telemetry
	// Timing holds the intervals.
	Timing topology.Timing
	// Region is the partition of popularity that the page is made from.
	Region string
	// Instance names the instance.
	Instance string
	// Commands is the instance's group of commands; nil makes one. An instance
	// whose clients have a group already has to share it.
	Commands *resilience.Group
	// Titles is the relational store.
	Titles Titles
	// KV is the wide-column store: bookmarks and popularity.
	KV KV
	// Cache is EVCache.
	Cache evcache.Cache
}

const (
	// maxBookmarks and maxPopular bound what is read for a page.
	maxBookmarks, maxPopular = 100, 200
	// maxConcurrent calls of one kind.
	maxConcurrent = 256
)

// Server is one instance of the recommendation service.
type Server struct {
	recommendpb.UnimplementedRecommendServer

	d   Deps
	rpc *rpc.Server

	pages     *evcache.Reader[[]*recommendpb.Row]
	catalogue *evcache.Reader[[]sqldb.Title]
	list      *resilience.Command[[]kv.Item]
	// last is the catalogue as this instance saw it last: the page's last resort.
	last atomic.Pointer[[]sqldb.Title]
}

// New makes an instance; it calls nobody.
func New(d Deps) (*Server, error) {
	switch {
	case d.RPC == nil || d.Tel == nil:
		return nil, services.Errorf(services.Invalid, "recommend: Deps without RPC or Tel")
	case d.Titles == nil || d.KV == nil || d.Cache == nil:
		return nil, services.Errorf(services.Invalid, "recommend: Deps without Titles, KV or Cache")
	}
	patience := d.Timing.RPCTimeout.D()
	store := resilience.Options{Group: "kv", Timeout: patience / 4, MaxConcurrent: maxConcurrent, BreakerSleep: d.Timing.BreakerSleep.D()}
	g := d.Commands
	if g == nil {
		g = resilience.NewGroup(d.Tel, store)
	}
	c := evcache.NewCopies(d.Tel, g, d.Cache, d.Timing)
	rows := store
	rows.Group = "sql"
	s := &Server{
		d:         d,
		catalogue: evcache.NewReader[[]sqldb.Title](c, "GetTitles", rows),
		list:      resilience.New[[]kv.Item](g, "ListSignals", store),
		// A page reads the catalogue and its signals within this.
		pages: evcache.NewReader[[]*recommendpb.Row](c, "BuildRows", resilience.Options{Group: "recommend", Timeout: patience * 3 / 4, MaxConcurrent: maxConcurrent}),
	}
	s.rpc = rpc.New("recommend", d.Tel)
	recommendpb.RegisterRecommendServer(s.rpc, s)
	return s, nil
}

// Serve implements services.Unit.
func (s *Server) Serve(ctx context.Context) error {
	return s.rpc.Serve(ctx, s.d.Timing.RPCTimeout.D()/4, s.d.RPC)
}

// CacheKeys lists the copies this role keeps of the catalogue, for whoever
// invalidates them when a title changes.
func CacheKeys() []string { return []string{catalogueKey} }

const catalogueKey = "recommend/catalogue"

// Rows implements recommendpb.RecommendServer.
func (s *Server) Rows(ctx context.Context, r *recommendpb.RowsRequest) (*recommendpb.RowsReply, error) {
	if r.GetMemberId() == "" {
		return nil, services.Errorf(services.Invalid, "recommend.Rows: member_id: it is empty")
	}
	// A page that lacks a source is not kept as the member's page: it is
	// carried out of the command beside its error.
	var partial []*recommendpb.Row
	a, err := s.pages.Read(ctx, "recommend/rows/"+r.GetMemberId()+"/"+r.GetCountry(), func(ctx context.Context) ([]*recommendpb.Row, error) {
		rows, err := s.build(ctx, r.GetMemberId(), r.GetCountry())
		if err != nil {
			partial = rows
		}
		return rows, err
	})
	switch {
	case err == nil:
		return &recommendpb.RowsReply{Rows: a.Value, Stale: a.Stale}, nil
	case partial != nil:
		return &recommendpb.RowsReply{Rows: partial, Stale: true}, nil
	}
	if last := s.last.Load(); last != nil {
		return &recommendpb.RowsReply{Rows: everything(watchable(*last, r.GetCountry(), time.Now())), Stale: true}, nil
	}
	return nil, services.Wrap("recommend.Rows", err)
}

// build makes a page from the stores. With an error the rows are what could be
// made without the sources that failed.
func (s *Server) build(ctx context.Context, member, country string) ([]*recommendpb.Row, error) {
	var in signals
	var titles evcache.Copy[[]sqldb.Title]
	var errs [3]error
	var g errgroup.Group // every error is kept: none ends the others
	g.Go(func() error {
		in.bookmarks, errs[0] = s.signal(ctx, kv.Bookmarks, member, maxBookmarks)
		return nil
	})
	g.Go(func() error {
		in.popular, errs[1] = s.signal(ctx, kv.Popularity, s.d.Region, maxPopular)
		return nil
	})
	titles, errs[2] = s.catalogue.Read(ctx, catalogueKey, s.d.Titles.Titles)
	_ = g.Wait() // they return nil
	if errs[2] != nil {
		return nil, errs[2]
	}
	s.last.Store(&titles.Value)
	in.titles = watchable(titles.Value, country, time.Now())
	if errs[0] != nil && errs[1] != nil {
		return everything(in.titles), errs[0]
	}
	var err error
	for _, e := range errs {
		if e != nil {
			err = e
		}
	}
	if titles.Stale && err == nil {
		err = services.Errorf(services.Unavailable, "the catalogue is stale")
	}
	return in.rows(), err
}

func (s *Server) signal(ctx context.Context, ns kv.Namespace, partition string, limit int) ([]kv.Item, error) {
	return s.list.Do(ctx, func(ctx context.Context) ([]kv.Item, error) {
		items, _, err := s.d.KV.Query(ctx, ns, partition, kv.Range{Limit: limit})
		return items, err
	})
}

// watchable are the titles a member in the country may play, by name.
func watchable(all []sqldb.Title, country string, now time.Time) []sqldb.Title {
	var out []sqldb.Title
	for _, t := range all {
		if t.LiveAt(now) && t.LicensedIn(country) {
			out = append(out, t)
		}
	}
	slices.SortStableFunc(out, func(a, b sqldb.Title) int { return strings.Compare(a.Name, b.Name) })
	return out
}
