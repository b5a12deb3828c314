package cassandra

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv"
)

// Store is a kv.Store on one region's Cassandra nodes.
type Store struct {
	cfg    Config
	table  string // its quoted name
	clock  *clock
	ops    *prometheus.CounterVec
	stop   context.CancelFunc
	closed context.Context
	wg     sync.WaitGroup

	// opened is closed once session is set.
	opened  chan struct{}
	session *gocql.Session
	local   *region
	failure atomic.Pointer[error] // why there is no session yet
}

var _ kv.Store = (*Store)(nil)

// New makes a client. It returns at once and connects in the background for as
// long as that takes; until then calls wait, and fail with
// services.Unavailable at their deadlines. It fails with services.Invalid when
// the configuration lacks something.
func New(c Config) (*Store, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	s := &Store{cfg: c, table: quoted(c.Keyspace), clock: &clock{now: c.Clock}, ops: counters(c.Tel.Metrics), opened: make(chan struct{})}
	s.closed, s.stop = context.WithCancel(context.Background())
	s.wg.Go(s.open)
	return s, nil
}

// open tries until there is a session. From then on the driver reconnects by
// itself.
func (s *Store) open() {
	d := &directory{cfg: &s.cfg, ctx: s.closed, last: map[string]string{}}
	for pause := minPause; ; pause = min(2*pause, s.cfg.longestPause()) {
		session, local, err := connect(d)
		if err == nil {
			s.session, s.local = session, local
			close(s.opened)
			return
		}
		if old := s.failure.Swap(&err); old == nil {
			s.cfg.Tel.Log.Info("waiting for Cassandra", "datacenter", s.cfg.Datacenter, "err", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.closed.Done():
			timer.Stop()
			return
		}
	}
}

// Close implements kv.Store. Calls under way fail with services.Unavailable.
func (s *Store) Close() error {
	s.stop()
	s.wg.Wait()
	select {
	case <-s.opened:
		s.session.Close()
	default:
	}
	return nil
}

// ready waits for the session.
func (s *Store) ready(ctx context.Context) (*gocql.Session, error) {
	var why error
	select {
	case <-s.closed.Done():
		why = gocql.ErrSessionClosed
	case <-ctx.Done():
		why = ctx.Err()
	default:
		select {
		case <-s.opened:
			return s.session, nil
		case <-s.closed.Done():
			why = gocql.ErrSessionClosed
		case <-ctx.Done():
			why = ctx.Err()
		}
	}
	if f := s.failure.Load(); f != nil {
		why = errors.Join(why, *f)
	}
	return nil, &services.Error{
		Kind: services.Unavailable, Msg: "no connection to the Cassandra of " + s.cfg.Datacenter, Err: why,
		Remedy: "see whether the region's kv instances are up: Cassandra takes some tens of seconds to start",
	}
}

// call runs one operation of the port: it bounds its time, and counts, traces
// and names it.
func (s *Store) call(ctx context.Context, op string, ns kv.Namespace, f func(context.Context, *gocql.Session) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	ctx, span := s.cfg.Tel.Tracer.Start(ctx, "cassandra "+op+" "+ns.Name, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("db.system", "cassandra"), attribute.String("db.collection.name", ns.Name)))
	defer span.End()
	session, err := s.ready(ctx)
	if err == nil {
		err = f(ctx, session)
	}
	kind := "ok"
	if err != nil {
		kind = string(services.KindOf(err))
		span.RecordError(err)
	}
	s.ops.WithLabelValues(op, kind).Inc()
	return services.Wrap("kv."+opNames[op], err)
}

// opNames are the port's methods by their names in metrics.
var opNames = map[string]string{"get": "Get", "query": "Query", "put": "Put", "putif": "PutIf", "delete": "Delete"}

// counters registers the operations' counters, or returns those that another
// client of the instance has registered already.
func counters(r prometheus.Registerer) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kv_client_ops_total", Help: "Operations on the wide-column store, by kind of error or ok."}, []string{"op", "kind"})
	var known prometheus.AlreadyRegisteredError
	if err := r.Register(v); errors.As(err, &known) {
		if old, ok := known.ExistingCollector.(*prometheus.CounterVec); ok {
			return old
		}
	}
	return v
}
