package keystone

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/resilience"
)

// ArchiveBucket is the S3 bucket of the archive. Its keys are
// region/2006/01/02/15/<unix nanoseconds>-<instance>.ndjson; each line is
// {"topic", "key", "event"}.
const ArchiveBucket = "events"

const (
	// batchEvents and batchBytes end a batch.
	batchEvents = 1000
	batchBytes  = 4 << 20
	// batchReports is a batch's longest age in intervals of progress reports;
	// a minute in a lab.
	batchReports = 30
	// maxWaiting batches are kept for a store out of reach.
	maxWaiting = 4
)

// archive gathers events into batches of newline-delimited JSON and stores
// each as one object. With the store out of reach for long it gives up the
// oldest batch, counted and logged: the archive must not hold back bookmarks,
// and the log keeps every event for its own retention. Safe for concurrent
// use; flush is called by one goroutine.
type archive struct {
	d     Deps
	store *resilience.Command[struct{}]
	lost  prometheus.Counter

	mu      sync.Mutex
	open    *batch
	waiting []*batch
}

type batch struct {
	lines  bytes.Buffer
	events int
	since  time.Time
}

func newArchive(d Deps, g *resilience.Group) *archive {
	a := &archive{
		d: d, store: resilience.New[struct{}](g, "PutArchive", resilience.Options{Group: "s3", Timeout: d.Timing.RPCTimeout.D()}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{Name: "keystone_archive_lost_total", Help: "Events given up because the archive's store was out of reach for long."}),
	}
	d.Tel.Metrics.MustRegister(a.lost)
	return a
}

// line is one event in the archive.
type line struct {
	Topic string          `json:"topic"`
	Key   string          `json:"key"`
	Event json.RawMessage `json:"event"`
}

func (a *archive) put(_ context.Context, r record) (bool, error) {
	b, err := json.Marshal(line{r.topic, r.key, r.raw})
	if err != nil {
		return false, services.Errorf(services.Invalid, "archive: %v", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open == nil {
		a.open = &batch{since: time.Now()}
	}
	a.open.lines.Write(append(b, '\n'))
	a.open.events++
	if a.open.events >= batchEvents || a.open.lines.Len() >= batchBytes {
		a.end()
	}
	return true, nil
}

// end puts the open batch in line. The caller holds a.mu.
func (a *archive) end() {
	if len(a.waiting) >= maxWaiting {
		given := a.waiting[0]
		a.waiting = append(a.waiting[:0], a.waiting[1:]...)
		a.lost.Add(float64(given.events))
		a.d.Tel.Log.Error("archive batch given up: its store is out of reach", "events", given.events, "since", given.since)
	}
	a.waiting = append(a.waiting, a.open)
	a.open = nil
}

// flush stores the batches that are full or old; with all set, every one.
func (a *archive) flush(ctx context.Context, now time.Time, all bool) error {
	a.mu.Lock()
	if a.open != nil && (all || now.Sub(a.open.since) >= batchReports*a.d.Timing.ProgressReport.D()) {
		a.end()
	}
	a.mu.Unlock()
	for {
		b := a.first()
		if b == nil {
			return nil
		}
		_, err := a.store.Do(ctx, func(ctx context.Context) (struct{}, error) {
			return struct{}{}, a.d.Archive.Put(ctx, ArchiveBucket, a.key(b), bytes.NewReader(b.lines.Bytes()), int64(b.lines.Len()))
		})
		if err != nil {
			return err
		}
		a.drop(b)
	}
}

func (a *archive) first() *batch {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) == 0 {
		return nil
	}
	return a.waiting[0]
}

// drop forgets a stored batch; put may have given it up meanwhile.
func (a *archive) drop(b *batch) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = slices.DeleteFunc(a.waiting, func(w *batch) bool { return w == b })
}

// key is the same for every try of a batch, so that one stored twice is stored
// once.
func (a *archive) key(b *batch) string {
	return fmt.Sprintf("%s/%s/%d-%s.ndjson", a.d.Region, b.since.UTC().Format("2006/01/02/15"), b.since.UnixNano(), strings.ReplaceAll(a.d.Instance, "/", "_"))
}
