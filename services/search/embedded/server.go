package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/blevesearch/bleve/v2"
	"github.com/blevesearch/bleve/v2/analysis"
	"github.com/blevesearch/bleve/v2/index/scorch"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/rpc"
	"github.com/flix-lab/flix/services/search/searchpb"
	"github.com/flix-lab/flix/services/telemetry"
)

// Config of a region's search.
type Config struct {
	// Dir holds the index; it is made when missing. One server at a time.
	Dir string
	// RPC serves the region's clients; it is bound.
	RPC net.Listener
	// Tel are the instance's instruments.
	Tel *telemetry.Telemetry
}

// Server is one region's search.
type Server struct {
	searchpb.UnimplementedSearchServer

	cfg      Config
	index    bleve.Index
	analyzer analysis.Analyzer
	ops      *prometheus.CounterVec
	rpc      *rpc.Server
	answers  answers
}

var _ services.Unit = (*Server)(nil)

// Limits of one request.
const (
	defaultHits = 20
	maxHits     = 100
	maxDocs     = 1000
	maxQuery    = 512 // bytes
	ioBuffer    = 8 << 10
)

// NewServer opens the index. On an error the listener stays the caller's.
func NewServer(c Config) (*Server, error) {
	if c.Dir == "" || c.RPC == nil || c.Tel == nil {
		return nil, services.Errorf(services.Invalid, "search: Dir, RPC and Tel are needed")
	}
	idx, err := openIndex(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("search: %w", err)
	}
	s := &Server{
		cfg: c, index: idx, analyzer: idx.Mapping().AnalyzerNamed(words),
		ops: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "search_ops_total", Help: "Operations answered, by kind of error or ok."}, []string{"op", "kind"}),
	}
	c.Tel.Metrics.MustRegister(s.ops)
	s.rpc = rpc.New("search", c.Tel, grpc.ReadBufferSize(ioBuffer), grpc.WriteBufferSize(ioBuffer))
	searchpb.RegisterSearchServer(s.rpc, s)
	return s, nil
}

// openIndex opens the index, or makes it. The mark is set when it was made in
// full: what a dying process left half made is thrown away, for it is empty.
func openIndex(dir string) (bleve.Index, error) {
	path, mark := filepath.Join(dir, "titles"), filepath.Join(dir, "made")
	if _, err := os.Stat(mark); err == nil {
		return bleve.OpenUsing(path, indexConfig())
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := errors.Join(os.RemoveAll(path), os.MkdirAll(dir, 0o700)); err != nil {
		return nil, err
	}
	m, err := newMapping()
	if err != nil {
		return nil, err
	}
	idx, err := bleve.NewUsing(path, m, scorch.Name, scorch.Name, indexConfig())
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		return nil, errors.Join(err, idx.Close())
	}
	return idx, nil
}

// indexConfig keeps one snapshot: nobody rolls the index back.
func indexConfig() map[string]any { return map[string]any{"numSnapshotsToKeep": 1} }

// Serve implements services.Unit.
func (s *Server) Serve(ctx context.Context) error {
	return errors.Join(s.rpc.Serve(ctx, 0, s.cfg.RPC), s.index.Close())
}

func (s *Server) count(op string, err error) {
	kind := "ok"
	if err != nil {
		kind = string(services.KindOf(err))
	}
	s.ops.WithLabelValues(op, kind).Inc()
}

// Put implements searchpb.SearchServer.
func (s *Server) Put(_ context.Context, r *searchpb.PutRequest) (_ *searchpb.PutReply, err error) {
	defer func() { s.count("put", err) }()
	if len(r.GetDocs()) > maxDocs {
		return nil, services.Errorf(services.Invalid, "%d documents: put at most %d at once", len(r.GetDocs()), maxDocs)
	}
	b := s.index.NewBatch()
	for _, d := range r.GetDocs() {
		if d.GetId() == "" {
			return nil, services.Errorf(services.Invalid, "a document needs an id")
		}
		if err := b.Index(d.GetId(), map[string]any{
			fieldName: d.GetName(), fieldExact: normal(d.GetName()),
			fieldSynopsis: d.GetSynopsis(), fieldGenres: d.GetGenres(),
		}); err != nil {
			return nil, fmt.Errorf("index %s: %w", d.GetId(), err)
		}
	}
	defer s.answers.drop()
	return &searchpb.PutReply{}, s.index.Batch(b)
}

// Delete implements searchpb.SearchServer.
func (s *Server) Delete(_ context.Context, r *searchpb.DeleteRequest) (_ *searchpb.DeleteReply, err error) {
	defer func() { s.count("delete", err) }()
	b := s.index.NewBatch()
	for _, id := range r.GetIds() {
		if id != "" {
			b.Delete(id)
		}
	}
	defer s.answers.drop()
	return &searchpb.DeleteReply{}, s.index.Batch(b)
}

// Query implements searchpb.SearchServer.
func (s *Server) Query(ctx context.Context, r *searchpb.QueryRequest) (_ *searchpb.QueryReply, err error) {
	defer func() { s.count("query", err) }()
	if len(r.GetQuery()) > maxQuery {
		return nil, services.Errorf(services.Invalid, "a query of %d bytes: at most %d", len(r.GetQuery()), maxQuery)
	}
	limit := int(r.GetLimit())
	switch {
	case limit == 0:
		limit = defaultHits
	case limit > maxHits:
		limit = maxHits
	}
	asked := question{r.GetQuery(), limit}
	known, changes := s.answers.get(asked)
	if known != nil {
		return known, nil
	}
	q := buildQuery(s.analyzer, r.GetQuery())
	if q == nil {
		return &searchpb.QueryReply{}, nil
	}
	req := bleve.NewSearchRequestOptions(q, limit, 0, false)
	req.Fields = []string{fieldName}
	// Equal scores come in order of id, so that two searches agree.
	req.SortBy([]string{"-_score", "_id"})
	res, err := s.index.SearchInContext(ctx, req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	reply := &searchpb.QueryReply{}
	for _, h := range res.Hits {
		name, _ := h.Fields[fieldName].(string) // an empty name is not stored
		reply.Hits = append(reply.Hits, &searchpb.Hit{Id: h.ID, Name: name, Score: h.Score})
	}
	exactFirst(reply.Hits, normal(r.GetQuery()))
	s.answers.keep(asked, reply, changes)
	return reply, nil
}

// exactFirst puts hits whose name is the query first. Their weight has brought
// them into the result; this makes the promise hold whatever the other words
// weigh.
func exactFirst(hits []*searchpb.Hit, want string) {
	rank := func(h *searchpb.Hit) int {
		if normal(h.GetName()) == want {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(hits, func(a, b *searchpb.Hit) int { return rank(a) - rank(b) })
}
