package objects

import (
	"context"
	"encoding/xml"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

const (
	// doorBuffer is how much of a body the door holds at a time.
	doorBuffer = 128 << 10
	// doorIdle connections to the store are kept open.
	doorIdle = 64
	// doorDial bounds the opening of one.
	doorDial = 2 * time.Second
)

// door hands requests on to a store, as they are, and counts what comes back.
// It neither verifies nor signs: the Host header travels unchanged, so what a
// client signed for the door's address is what the store verifies.
//
// It is there because versitygw does not count what it sends: its access log
// is written before the body is (BytesSent is 0 for every GET), and its statsd
// counter adds the announced length, which is too much for a GET that was cut
// off. Both are also sent to nobody's acknowledgement.
type door struct {
	tel      *telemetry.Telemetry
	proxy    *httputil.ReverseProxy
	next     *http.Transport
	egress   *egressLog
	requests *prometheus.CounterVec
}

func newDoor(target string, dial services.DialFunc, tel *telemetry.Telemetry, egress *egressLog) *door {
	d := &door{
		tel: tel, egress: egress, requests: newRequestCounter(),
		next: &http.Transport{
			DialContext: dial.Within(doorDial), DisableCompression: true, MaxIdleConnsPerHost: doorIdle, IdleConnTimeout: clientIdleTimeout,
			ReadBufferSize: doorBuffer, WriteBufferSize: doorBuffer,
		},
	}
	d.proxy = &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "http", target
			p.Out.Host = p.In.Host
			p.Out.URL.RawQuery = p.In.URL.RawQuery // signed as it was sent
			// versitygw refuses an upload without reading it and takes the rest
			// of the body for the connection's next request: nobody shall be
			// next.
			p.Out.Close = p.In.ContentLength != 0
		},
		Transport: d.next, BufferPool: newBuffers(), ErrorHandler: d.unreachable,
		ErrorLog: slog.NewLogLogger(tel.Log.Handler(), slog.LevelDebug),
	}
	return d
}

// serve hands one request on. It counts it also when the client goes away,
// which ends the handler by a panic.
func (d *door) serve(w http.ResponseWriter, r *http.Request) {
	op, bucket, key := nameOf(r)
	m := &meter{codeWriter: codeWriter{ResponseWriter: w}}
	if op == "GetObject" {
		m.flush = func(n int64) {
			if err := d.egress.add(bucket, key, m.code, n); err != nil {
				d.tel.Log.Error("egress not logged: the count will be short after a restart", "error", err)
			}
		}
	}
	defer func() {
		m.end()
		d.requests.WithLabelValues(op, strconv.Itoa(m.code)).Inc()
	}()
	d.proxy.ServeHTTP(m, r)
}

// nameOf says what a request asks for, by the names of the metrics.
func nameOf(r *http.Request) (op, bucket, key string) {
	bucket, key, _ = strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	query, err := url.ParseQuery(r.URL.RawQuery)
	switch {
	case err != nil || foreign(query) || !validBucket(bucket) && bucket != "":
		return "Unknown", bucket, key
	case bucket == "" && r.Method == http.MethodGet:
		return "ListBuckets", bucket, key
	}
	if o, ok := operationOf(r, key, query); ok && bucket != "" {
		return o.name, bucket, key
	}
	return "Unknown", bucket, key
}

// unreachable answers for a store that does not, in the form that makes S3
// clients try again.
func (d *door) unreachable(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil || errors.Is(err, context.Canceled) {
		return // the client is gone
	}
	d.tel.Log.Debug("the store does not answer", "error", err)
	body, err := xml.Marshal(errorBody{Code: "ServiceUnavailable", Message: "The object store behind this address does not answer.", Resource: r.URL.Path, RequestID: telemetry.TraceID(r.Context())})
	if err != nil {
		d.tel.Log.Error("error answer not encoded", "error", err)
	}
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Connection", "close") // of the request's body, who knows how much was read
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = w.Write(body) // the client is gone: nothing to tell it
}

func (d *door) close() { d.next.CloseIdleConnections() }

// meter counts the bytes of an object's data on their way to the client.
type meter struct {
	codeWriter
	// flush takes what was counted since the last time; nil counts nothing.
	flush func(n int64)
	n     int64
}

// Write counts what the client's connection took.
func (m *meter) Write(p []byte) (int, error) {
	n, err := m.codeWriter.Write(p)
	if m.code == http.StatusOK || m.code == http.StatusPartialContent {
		m.n += int64(n)
		// Not only at the end: a kill in the middle of a long GET must not
		// hide all of it.
		if m.n >= egressStep {
			m.end()
		}
	}
	return n, err
}

// end hands on what is counted.
func (m *meter) end() {
	if m.flush != nil && m.n > 0 {
		m.flush(m.n)
	}
	m.n = 0
}

// buffers are what bodies are copied through.
type buffers struct{ pool sync.Pool }

func newBuffers() *buffers {
	return &buffers{sync.Pool{New: func() any { return new([doorBuffer]byte) }}}
}

// Get is httputil.BufferPool's.
func (b *buffers) Get() []byte { return b.pool.Get().(*[doorBuffer]byte)[:] }

// Put is httputil.BufferPool's.
func (b *buffers) Put(p []byte) { b.pool.Put((*[doorBuffer]byte)(p)) }
