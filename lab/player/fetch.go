package player

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

const (
	// slowFactor times as long as it plays is how long a segment may take, if
	// that is longer than Timing.FetchPatience.
	slowFactor = 2
	// maxWhole bounds an object whose size is not known before, bytes.
	maxWhole = 32 << 20
)

var (
	errStalled = errors.New("the appliance sends nothing")
	errSlow    = errors.New("the appliance is slower than playback")
	errSum     = errors.New("the bytes do not match their checksum")
)

// object is something to fetch from an appliance.
type object struct {
	// name for spans and errors, e.g. "v2/14".
	name string
	path string // relative to the appliance's URL
	// offset and size of the range; size 0 is the whole file.
	offset, size uint64
	sum          []byte
	data         cmcd
}

// allowance is how long the object may take before its appliance is slow.
func (o object) allowance(patience time.Duration, speed float64) time.Duration {
	return max(patience, time.Duration(slowFactor*float64(o.data.duration)/speed))
}

// get fetches an object from a source, with its checksum checked, and returns
// how long it took.
func (s *session) get(ctx context.Context, src *source, o object) (b []byte, took time.Duration, err error) {
	ctx, span := s.tel.Tracer.Start(ctx, "fetch "+o.name, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("appliance", src.Name), attribute.String("site", src.Site), attribute.Int64("bytes", int64(o.size))))
	defer func() { telemetry.End(span, err) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := s.watch(cancel, o)
	defer w.stop()
	start := s.now()
	b, err = s.request(ctx, src, o, w)
	if err != nil && context.Cause(ctx) != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, 0, err
	}
	took = s.now().Sub(start)
	if sum := sha256.Sum256(b); !bytes.Equal(sum[:], o.sum) {
		return nil, took, errSum
	}
	return b, took, nil
}

// request makes one HTTP request and reads its whole answer.
func (s *session) request(ctx context.Context, src *source, o object, w *watcher) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, src.base.JoinPath(o.path).String(), nil)
	if err != nil {
		return nil, err
	}
	want := http.StatusOK
	if o.size > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", o.offset, o.offset+o.size-1))
		want = http.StatusPartialContent
	}
	o.data.set(req.Header)
	telemetry.Propagator.Inject(ctx, propagation.HeaderCarrier(req.Header))
	resp, err := src.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != want {
		return nil, services.Errorf(services.KindFromHTTP(resp.StatusCode), "it answers %s", resp.Status)
	}
	if o.size == 0 {
		b, err := io.ReadAll(io.LimitReader(w.reader(resp.Body), maxWhole+1))
		if err == nil && len(b) > maxWhole {
			err = services.Errorf(services.Exhausted, "more than %d bytes", maxWhole)
		}
		return b, err
	}
	if resp.ContentLength != int64(o.size) {
		return nil, services.Errorf(services.Internal, "it sends %d bytes where %d were asked for", resp.ContentLength, o.size)
	}
	b := make([]byte, o.size)
	if _, err := io.ReadFull(w.reader(resp.Body), b); err != nil {
		return nil, err
	}
	// The end of the body has to be read for the connection to be kept.
	_, err = io.Copy(io.Discard, resp.Body)
	return b, err
}

// watcher cancels a transfer that stalls or crawls through no fault of the
// client's own link.
type watcher struct {
	received atomic.Int64

	mu    sync.Mutex
	timer *time.Timer
	done  bool
}

func (s *session) watch(cancel context.CancelCauseFunc, o object) *watcher {
	w := &watcher{}
	var (
		stall    = s.timing.StallTimeout.D()
		interval = s.timing.FetchWatch.D()
		start    = time.Now()
		progress = start // when bytes last came
		seen     int64
		busy     = s.conn.link.waited()
		allowed  = time.Duration(float64(o.allowance(s.timing.FetchPatience.D(), s.opts.Speed)) * s.lenience)
	)
	look := func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.done {
			return
		}
		now := time.Now()
		if n := w.received.Load(); n > seen {
			seen, progress = n, now
		}
		own := s.conn.link.waited() - busy
		switch {
		case now.Sub(progress) > stall && own < stall/2:
			cancel(errStalled)
		case now.Sub(start) > allowed && own < now.Sub(start)/2:
			cancel(errSlow)
		default:
			w.timer.Reset(interval)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(interval, look)
	return w
}

// stop ends the watch; nothing is cancelled after it returns.
func (w *watcher) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = true
	w.timer.Stop()
}

func (w *watcher) reader(r io.Reader) io.Reader { return &counted{r: r, n: &w.received} }

type counted struct {
	r io.Reader
	n *atomic.Int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n.Add(int64(n))
	return n, err
}
