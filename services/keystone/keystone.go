// Package keystone routes the events of a region's stream pipeline to their
// sinks: bookmarks and popularity in the wide-column store, the sessions that
// run now in memory, copies of changed titles out of EVCache, and everything
// to an archive in S3.
//
// It promises at least once: an event counts as taken when every sink has it,
// and a sink that fails holds the partition back until it works again, for the
// log is the buffer. Each sink drops an event it has had, by the event's id, so
// that a redelivery changes nothing. Archive and popularity gather events
// before they write: what an instance had gathered is lost when it is killed,
// which costs statistics and never a bookmark.
package keystone

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/events"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/resilience"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// KV is what the role needs of the wide-column store; kv.Store has it.
type KV interface {
	Get(ctx context.Context, ns kv.Namespace, partition, sort string) (kv.Item, error)
	Put(ctx context.Context, ns kv.Namespace, partition string, items ...kv.Item) error
	PutIf(ctx context.Context, ns kv.Namespace, partition string, cond kv.Condition, items ...kv.Item) error
}

// Archive stores objects; the S3 client has it.
type Archive interface {
	Put(ctx context.Context, bucket, key string, r io.Reader, size int64) error
}

// Cache is what the role needs of EVCache.
type Cache interface {
	Delete(ctx context.Context, key string) error
}

// ConsumeFunc reads topics as a member of the router's consumer group and
// calls handle for each record, in order within a partition and perhaps at
// once for several. A record whose handling failed comes again, after a pause,
// until it succeeds, and holds up its partition meanwhile. It returns when ctx
// ends or reading fails.
type ConsumeFunc func(ctx context.Context, topics []string, handle func(ctx context.Context, topic string, key, value []byte) error) error

// Deps is what an instance is made of.
type Deps struct {
	// Tel is the instance's instruments.
	Tel *telemetry.Telemetry
	// Timing holds the intervals: ProgressReport paces the writes of gathered
	// events, FillWindow is the half-life of popularity.
	Timing topology.Timing
	// Region is the partition of popularity, Instance a part of archive keys.
	Region, Instance string
	// Commands is the instance's group of commands; nil makes one. An instance
	// whose clients have a group already has to share it.
	Commands *resilience.Group
	// Consume reads the pipeline.
	Consume ConsumeFunc
	// KV takes bookmarks and popularity, and knows the sizes of titles.
	KV KV
	// Cache and CacheKeys drop the copies of a title that changed: CacheKeys
	// names them. Without either nothing is dropped, and copies live out their
	// time.
	Cache     Cache
	CacheKeys func(title string) []string
	// Archive takes batches of events; nil keeps no archive.
	Archive Archive
	// MaxSessions bounds the sessions kept in memory; 0 is 4,096.
	MaxSessions int
}

const (
	defaultSessions = 4096
	// maxConcurrent calls of one kind: a consumer works through few partitions.
	maxConcurrent = 64
	// firstBackoff before a failed consumer is tried again; it doubles up to
	// the RPC timeout.
	firstBackoff = 10 * time.Millisecond
)

// Server is one instance of the router.
type Server struct {
	d          Deps
	routes     map[string][]route // by topic
	sessions   *sessions
	popularity *popularity
	archive    *archive // nil without one
	copies     *invalidation
	routed     *prometheus.CounterVec
	filled     *prometheus.CounterVec
}

// New makes an instance; it calls nobody.
func New(d Deps) (*Server, error) {
	switch {
	case d.Tel == nil:
		return nil, services.Errorf(services.Invalid, "keystone: Deps without Tel")
	case d.Consume == nil || d.KV == nil:
		return nil, services.Errorf(services.Invalid, "keystone: Deps without Consume or KV")
	}
	if d.MaxSessions == 0 {
		d.MaxSessions = defaultSessions
	}
	g := d.Commands
	if g == nil {
		g = resilience.NewGroup(d.Tel, resilience.Options{Timeout: d.Timing.RPCTimeout.D(), MaxConcurrent: maxConcurrent, BreakerSleep: d.Timing.BreakerSleep.D()})
	}
	s := &Server{
		d: d, sessions: newSessions(d.MaxSessions),
		routed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "keystone_routed_total", Help: "Events by topic, sink and what became of them: ok, duplicate, skipped, refused, failed (it comes again) or malformed."}, []string{"topic", "sink", "result"}),
		filled: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "keystone_fill_bytes_total", Help: "Bytes appliances stored, by source, as their events say."}, []string{"source"}),
	}
	d.Tel.Metrics.MustRegister(s.routed, s.filled)
	s.popularity = newPopularity(d, g)
	if d.Archive != nil {
		s.archive = newArchive(d, g)
	}
	s.copies = newInvalidation(d, g)
	s.routes = s.plan(newBookmarks(d, g))
	return s, nil
}

// Serve implements services.Unit.
func (s *Server) Serve(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { s.consume(ctx); return nil })
	g.Go(func() error { s.flush(ctx); return nil })
	return g.Wait()
}

// RegisterAdmin adds GET /sessions: the sessions that played last, newest
// first, as a JSON array of Session.
func (s *Server) RegisterAdmin(mux *http.ServeMux, key string) {
	mux.Handle("GET /sessions", telemetry.Guard(key, func(w http.ResponseWriter, _ *http.Request) {
		telemetry.WriteJSON(w, http.StatusOK, s.sessions.list())
	}))
}

// consume reads the topics until ctx ends, and reads again when the pipeline
// is out of reach.
func (s *Server) consume(ctx context.Context) {
	topics := []string{events.TopicPlayback, events.TopicTitles, events.TopicFill}
	again := backoff{max: s.d.Timing.RPCTimeout.D()}
	for ctx.Err() == nil {
		start := time.Now()
		err := s.d.Consume(ctx, topics, s.handle)
		if ctx.Err() != nil {
			return
		}
		if time.Since(start) > again.max {
			again.next = 0 // it worked for a while
		}
		s.d.Tel.Log.WarnContext(ctx, "consumer ended, reading again", "error", err)
		again.wait(ctx)
	}
}

// flush writes what popularity and archive have gathered and drops copies the
// second time, at the pace of the players' reports, and once more at the end.
func (s *Server) flush(ctx context.Context) {
	tick := time.NewTicker(s.d.Timing.ProgressReport.D())
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.write(ctx, false)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.d.Timing.RPCTimeout.D()/4)
			s.write(last, true)
			cancel()
			return
		}
	}
}

func (s *Server) write(ctx context.Context, last bool) {
	if err := s.popularity.flush(ctx, time.Now()); err != nil {
		s.d.Tel.Log.WarnContext(ctx, "popularity not written, kept for the next time", "error", err)
	}
	if s.archive != nil {
		if err := s.archive.flush(ctx, time.Now(), last); err != nil {
			s.d.Tel.Log.WarnContext(ctx, "archive not written, kept for the next time", "error", err)
		}
	}
	if err := s.copies.flush(ctx, time.Now(), last); err != nil {
		s.d.Tel.Log.WarnContext(ctx, "copies not dropped again, kept for the next time", "error", err)
	}
}

// backoff waits longer each time.
type backoff struct{ next, max time.Duration }

func (b *backoff) wait(ctx context.Context) {
	if b.next == 0 {
		b.next = firstBackoff
	}
	t := time.NewTimer(min(b.next, b.max))
	defer t.Stop()
	b.next = min(b.next*2, b.max)
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
