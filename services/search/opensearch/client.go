package opensearch

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/search"
	"github.com/flix-lab/flix/services/telemetry"
)

const (
	// defaultTimeout leaves room for the making of the index, which takes a
	// small node some seconds; searches take milliseconds.
	defaultTimeout = 10 * time.Second
	// maxConns bounds the connections to the cluster, in use or idle. Further
	// requests wait for one, within their contexts.
	maxConns        = 16
	idleConns       = 4
	idleConnTimeout = time.Minute
	// maxHeaderBytes bounds the head of an answer.
	maxHeaderBytes = 64 << 10
)

// Config is what a client needs.
type Config struct {
	// Endpoint returns the cluster's URL, e.g. "http://127.0.0.1:9200". It is
	// asked for every request and should answer from memory.
	Endpoint func(context.Context) (string, error)
	// Dial opens connections; nil for a plain dialer.
	Dial services.DialFunc
	// Timeout bounds one request to OpenSearch, of which a Put of many
	// documents makes several; 0 for 10 s. The context's deadline counts too.
	Timeout time.Duration
	// Tel are the instance's instruments. Clients of one instance share its
	// counters.
	Tel *telemetry.Telemetry
}

// Client is a search.Index.
type Client struct {
	cfg       Config
	http      *http.Client
	transport *http.Transport
	ops       *prometheus.CounterVec
}

var _ search.Index = (*Client)(nil)

// New makes a client. It opens no connection. It fails with services.Invalid
// when Endpoint or Tel is missing.
func New(c Config) (*Client, error) {
	if c.Endpoint == nil || c.Tel == nil {
		return nil, services.Errorf(services.Invalid, "opensearch.New: Endpoint and Tel are needed")
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	t := &http.Transport{
		DialContext: c.Dial, DisableCompression: true,
		MaxConnsPerHost: maxConns, MaxIdleConnsPerHost: idleConns, MaxIdleConns: idleConns,
		IdleConnTimeout: idleConnTimeout, MaxResponseHeaderBytes: maxHeaderBytes,
	}
	cl := &Client{cfg: c, transport: t, ops: counters(c.Tel.Metrics)}
	cl.http = &http.Client{
		Transport: c.Tel.Transport(t),
		// OpenSearch redirects nobody: whoever does is not it.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return cl, nil
}

// counters registers the operations' counters, or returns those that another
// client of the instance has registered already.
func counters(r prometheus.Registerer) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "search_client_ops_total", Help: "Operations on the search index, by kind of error or ok."}, []string{"op", "kind"})
	var known prometheus.AlreadyRegisteredError
	if err := r.Register(v); errors.As(err, &known) {
		if old, ok := known.ExistingCollector.(*prometheus.CounterVec); ok {
			return old
		}
	}
	return v
}

// Close implements search.Index.
func (c *Client) Close() error {
	c.transport.CloseIdleConnections()
	return nil
}

// Put implements search.Index. Documents travel in batches; when it fails,
// those of earlier batches, and single ones of the failed batch, are indexed.
// It fails with services.Invalid for a document without an id or of more than
// 1 MiB, before anything is sent.
func (c *Client) Put(ctx context.Context, docs ...search.Doc) error {
	actions := make([]action, 0, len(docs))
	for _, d := range docs {
		a, err := put(d)
		if err != nil {
			return c.done("put", err)
		}
		actions = append(actions, a)
	}
	return c.done("put", c.bulk(ctx, actions, true))
}

// Delete implements search.Index.
func (c *Client) Delete(ctx context.Context, ids ...services.TitleID) error {
	actions := make([]action, 0, len(ids))
	for _, id := range ids {
		// No document has such an id.
		if id == "" || len(id) > maxID {
			continue
		}
		a, err := remove(id)
		if err != nil {
			return c.done("delete", err)
		}
		actions = append(actions, a)
	}
	return c.done("delete", c.bulk(ctx, actions, false))
}

// Search implements search.Index. A limit of 0 or less gives up to 20 hits,
// and 100 are the most. It fails with services.Invalid for a query of more
// than 512 bytes; of its words only the first 8 count.
func (c *Client) Search(ctx context.Context, query string, limit int) ([]search.Hit, error) {
	hits, err := c.find(ctx, query, limit)
	return hits, c.done("search", err)
}

// done counts an operation and says which one failed.
func (c *Client) done(op string, err error) error {
	kind := "ok"
	if err != nil {
		kind = string(services.KindOf(err))
	}
	c.ops.WithLabelValues(op, kind).Inc()
	return services.Wrap("opensearch: "+op, err)
}
