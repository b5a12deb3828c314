package player

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
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
	// lookTime and lookBytes must both have passed for a transfer to be looked
	// at again.
	lookTime  = 50 * time.Millisecond
	lookBytes = 1500
)

var (
	errStalled = errors.New("the appliance sends nothing")
	errSlow    = errors.New("the appliance is slower than playback")
	errSum     = errors.New("the bytes do not match their checksum")
	// errAbandoned is the algorithm's will, not a failure.
	errAbandoned = errors.New("given up for another rung")
)

// spanOfClient is a span's of a request.
var spanOfClient = trace.WithSpanKind(trace.SpanKindClient)

// object is something to fetch from an appliance.
type object struct {
	// name for spans and errors, e.g. "v2/14".
	name string
	path string // relative to the appliance's URL
	// offset and size of the range; size 0 is the whole file.
	offset, size uint64
	sum          []byte
	data         cmcd
	// discard says that nobody wants the bytes, only that they came.
	discard bool
	// look sees the transfer on its way, while the play's goroutine waits for
	// it, at most once per lookTime and lookBytes: bytes received, time since
	// the request, and how long the first byte took. It gives the transfer up by
	// true. It may be nil.
	look func(bytes int, elapsed, first time.Duration) bool
}

// delivery is an object that came.
type delivery struct {
	b []byte // nil if they were not wanted
	n int    // how many came
	// took is from the request to the last byte, first to the first one.
	took, first time.Duration
}

// allowance is how long the object may take before its appliance is slow.
func (o object) allowance(patience time.Duration, speed float64) time.Duration {
	return max(patience, time.Duration(slowFactor*float64(o.data.duration)/speed))
}

// get fetches an object from a source, with its checksum checked.
func (s *session) get(ctx context.Context, src *source, o object) (d delivery, err error) {
	ctx, span := s.tel.Tracer.Start(ctx, "fetch "+o.name, spanOfClient)
	if span.IsRecording() {
		span.SetAttributes(attribute.String("appliance", src.Name), attribute.String("site", src.Site), attribute.Int64("bytes", int64(o.size)))
	}
	defer func() { telemetry.End(span, err) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := s.watch(cancel, o)
	defer w.stop()
	m := &meter{now: s.now, start: s.now(), look: o.look, watched: &w.received}
	s.p.bufs.hands.apart(func() { d.b, err = s.request(ctx, src, o, m) })
	d.n = m.bytes
	if err != nil && !errors.Is(err, errAbandoned) && context.Cause(ctx) != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return delivery{}, err
	}
	d.took = s.now().Sub(m.start)
	d.first = min(m.first, d.took)
	if sum := sha256.Sum256(d.b); !o.discard && !bytes.Equal(sum[:], o.sum) {
		return delivery{}, errSum
	}
	return d, nil
}

// request makes one HTTP request and reads its whole answer.
func (s *session) request(ctx context.Context, src *source, o object, m *meter) ([]byte, error) {
	req, err := src.ask(ctx, http.MethodGet, o.path)
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
	resp, err := src.do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer resp.Body.Close()
	m.r = resp.Body
	if resp.StatusCode != want {
		return nil, services.Errorf(services.KindFromHTTP(resp.StatusCode), "it answers %s", resp.Status)
	}
	if o.size == 0 {
		return whole(m, resp.ContentLength, maxWhole)
	}
	if resp.ContentLength != int64(o.size) {
		return nil, services.Errorf(services.Internal, "it sends %d bytes where %d were asked for", resp.ContentLength, o.size)
	}
	if o.discard {
		return nil, s.p.bufs.drop(m, int64(o.size))
	}
	b := make([]byte, o.size)
	if _, err := io.ReadFull(m, b); err != nil {
		return nil, err
	}
	// The end of the body has to be read for the connection to be kept.
	_, err = io.Copy(io.Discard, resp.Body)
	return b, err
}

// whole reads a body to its end: in one piece if its length is known, below 0 it
// is not. It refuses one that is longer than most.
func whole(r io.Reader, length, most int64) ([]byte, error) {
	var b bytes.Buffer
	if length >= 0 && length <= most {
		b.Grow(int(length) + bytes.MinRead) // ReadFrom wants that much to find the end
	}
	_, err := b.ReadFrom(io.LimitReader(r, most+1))
	if err == nil && int64(b.Len()) > most {
		err = services.Errorf(services.Exhausted, "more than %d bytes", most)
	}
	return b.Bytes(), err
}

// skip reads a body that nobody wants to its end, as whole does.
func skip(r io.Reader, most int64) error {
	n, err := io.Copy(io.Discard, io.LimitReader(r, most+1))
	if err == nil && n > most {
		err = services.Errorf(services.Exhausted, "more than %d bytes", most)
	}
	return err
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

// meter reads a body, and times and shows what comes of it.
type meter struct {
	r       io.Reader
	now     func() time.Time
	start   time.Time
	look    func(bytes int, elapsed, first time.Duration) bool
	watched *atomic.Int64

	first  time.Duration // 0 before the first byte
	bytes  int
	looked time.Duration // when look was last called, and at how many bytes
	shown  int
}

func (m *meter) Read(b []byte) (int, error) {
	n, err := m.r.Read(b)
	if n == 0 {
		return n, err
	}
	m.watched.Add(int64(n))
	m.bytes += n
	elapsed := m.now().Sub(m.start)
	if m.first == 0 {
		m.first = elapsed
	}
	if m.look != nil && err == nil && elapsed-m.looked >= lookTime && m.bytes-m.shown >= lookBytes {
		m.looked, m.shown = elapsed, m.bytes
		if m.look(m.bytes, elapsed, m.first) {
			return n, errAbandoned
		}
	}
	return n, err
}

// withoutURL leaves out which URL an error is of: it is signed, and who reads a
// report must not be able to use it.
func withoutURL(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}
