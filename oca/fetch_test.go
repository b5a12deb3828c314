package oca

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// newTestServer returns an appliance that is not serving; its store is closed
// with the test.
func newTestServer(t testing.TB, change func(*Deps)) *Server {
	t.Helper()
	var ls [2]net.Listener
	for i := range ls {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		ls[i] = l
	}
	timing := topology.LabTiming() // but no source, nor peer, is given up since the machine stood still
	timing.ReportExpiry, timing.RPCTimeout = topology.Duration(time.Minute), topology.Duration(time.Minute)
	d := Deps{
		Client: ls[0], Fill: ls[1], TLS: &tls.Config{}, Dir: t.TempDir(), ID: "us-east/us-east-ix/oca/1", Region: "us-east",
		Site: topology.Site{Name: "us-east-ix", Kind: topology.SiteExchange}, Appliance: topology.Appliance{Capacity: 1 << 20, Bandwidth: 1e11},
		Control: func(context.Context) (pb.CacheControlClient, string, error) {
			return nil, "", services.Errorf(services.Unavailable, "none")
		},
		Tel: telemetry.Discard(), Timing: timing, NoAuth: true,
	}
	if change != nil {
		change(&d)
	}
	s, err := New(d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.store.close(); s.filler.client.CloseIdleConnections() })
	return s
}

// script answers the n-th request by the n-th step, the last for ever.
type script struct {
	mu    sync.Mutex
	steps []http.HandlerFunc
	seen  []string // Range of each request
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	step := s.steps[min(len(s.seen), len(s.steps)-1)]
	s.seen = append(s.seen, r.Header.Get("Range"))
	s.mu.Unlock()
	step(w, r)
}

func whole(body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// broken sends n bytes of what was asked for and drops the connection.
func broken(body []byte, n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		whole(body)(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes()[:min(n, rec.Body.Len())])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

func TestFetch(t *testing.T) {
	good := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
	bad := bytes.Clone(good)
	bad[5] ^= 1
	badTail := bytes.Clone(good)
	badTail[len(good)-5] ^= 1
	noRange := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(good) }
	wrongRange := func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Range", "bytes=7-")
		whole(good)(w, r)
	}
	type steps = []http.HandlerFunc
	for _, c := range []struct {
		name    string
		sources []steps
		fails   bool
		// reports is the number of FillFailed messages about sources.
		reports int
		ranges  []string // of the first source, when given
	}{
		{name: "one good source", sources: []steps{{whole(good)}}},
		{name: "resumed twice", sources: []steps{{broken(good, 70_000), broken(good, 50_000), whole(good)}}, ranges: []string{"", "bytes=70000-", "bytes=120000-"}},
		{name: "broken before the first byte", sources: []steps{{broken(good, 0), whole(good)}}, reports: 1},
		{name: "resumed from another", sources: []steps{{broken(good, 70_000), status(404)}, {whole(good)}}, reports: 1},
		{name: "a source that knows no ranges", sources: []steps{{broken(good, 70_000), noRange}}},
		{name: "a source that gives other ranges", sources: []steps{{broken(good, 70_000), wrongRange}, {whole(good)}}, reports: 1},
		{name: "not there", sources: []steps{{status(404)}, {whole(good)}}, reports: 1, ranges: []string{""}},
		{name: "busy at first", sources: []steps{{status(503), status(503), whole(good)}}, reports: 1, ranges: []string{"", "", ""}},
		{name: "wrong bytes", sources: []steps{{whole(bad)}, {whole(good)}}, reports: 1, ranges: []string{""}},
		{name: "too few bytes", sources: []steps{{whole(good[:100])}, {whole(good)}}, reports: 1, ranges: []string{""}},
		{name: "too many bytes", sources: []steps{{whole(append(bytes.Clone(good), 'x'))}, {whole(good)}}, reports: 1, ranges: []string{""}},
		// The second is not to blame for the first one's bytes: it is asked again, for all.
		{name: "wrong bytes before a good rest", sources: []steps{{broken(bad, 70_000), status(404)}, {whole(good)}}, reports: 1},
		{name: "good bytes before a wrong rest", sources: []steps{{broken(good, 70_000), status(404)}, {whole(badTail)}, {whole(good)}}, reports: 2},
		{name: "all wrong", sources: []steps{{whole(bad)}, {status(403)}}, fails: true, reports: 2},
		{name: "no source", fails: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newTestServer(t, nil)
			s.outbox.start(&pb.Hello{})
			name := ref{"tt-a", 1, "v1.mp4"}
			digest := sha256.Sum256(good)
			order := &pb.FillOrder{TitleId: name.title, Version: name.version, File: &pb.File{Path: name.path, Size: uint64(len(good)), Sha256: digest[:]}}
			var first *script
			for _, st := range c.sources {
				h := &script{steps: st}
				if first == nil {
					first = h
				}
				srv := httptest.NewServer(h)
				t.Cleanup(srv.Close)
				order.Sources = append(order.Sources, &pb.FillSource{Source: pb.Source_SOURCE_PEER, Appliance: "peer", Url: srv.URL + "/file"})
			}
			s.filler.fill(t.Context(), order)
			queue, _ := s.outbox.take()
			reports, gaveUp, held := 0, false, false
			for _, m := range queue {
				if f := m.GetFillFailed(); f != nil && f.Url != "" {
					reports++
				} else if f != nil {
					gaveUp = true
				}
				held = held || m.GetHeld() != nil
			}
			if gaveUp != c.fails || held == c.fails || reports != c.reports {
				t.Errorf("gave up %v, held %v, %d reports of sources, want %d: %v", gaveUp, held, reports, c.reports, queue)
			}
			if !c.fails {
				if got := read(t, s.store, name); got != string(good) {
					t.Error("wrong bytes are stored")
				}
			}
			if c.ranges != nil && strings.Join(first.seen, ",") != strings.Join(c.ranges, ",") {
				t.Errorf("asked for %q, want %q", first.seen, c.ranges)
			}
			if s.store.reserved != 0 {
				t.Errorf("%d bytes stay reserved", s.store.reserved)
			}
			if left, _ := s.store.root.Open(tempDir); left != nil {
				names, _ := left.Readdirnames(-1)
				left.Close()
				if len(names) != 0 {
					t.Errorf("tmp holds %v", names)
				}
			}
		})
	}
}

func TestFetchLeavesASourceThatStalls(t *testing.T) {
	good := []byte("good bytes")
	release := make(chan struct{})
	stalled := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "goo")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer stalled.Close()
	defer close(release)
	well := httptest.NewServer(whole(good))
	defer well.Close()
	s := newTestServer(t, func(d *Deps) { d.Timing.ReportExpiry = topology.Duration(200 * time.Millisecond) })
	digest := sha256.Sum256(good)
	order := &pb.FillOrder{TitleId: "tt-a", Version: 1, File: &pb.File{Path: "f", Size: 10, Sha256: digest[:]}, Sources: []*pb.FillSource{
		{Source: pb.Source_SOURCE_CACHE, Url: stalled.URL}, {Source: pb.Source_SOURCE_CACHE, Url: well.URL},
	}}
	s.filler.fill(t.Context(), order)
	if got := read(t, s.store, ref{"tt-a", 1, "f"}); got != string(good) {
		t.Errorf("stored %q", got)
	}
}

func TestOutboxOverflowStartsTheStreamAnew(t *testing.T) {
	o := newOutbox(7)
	o.send(&pb.ApplianceMessage{}) // no stream: dropped
	o.start(&pb.Hello{})
	for range maxOutbox + 5 {
		o.send(&pb.ApplianceMessage{})
	}
	if q, ok := o.take(); ok || len(q) != 0 {
		t.Errorf("%d messages are left of an overflow (ok %v)", len(q), ok)
	}
	o.start(&pb.Hello{})
	q, ok := o.take()
	if !ok || len(q) != 1 || q[0].GetHello() == nil || q[0].Counter <= 7+maxOutbox-1 {
		t.Errorf("after a new start: %v (ok %v)", q, ok)
	}
}

func TestHealth(t *testing.T) {
	s := newTestServer(t, nil)
	// Looks an hour apart: next to that the disk takes no time, however busy.
	look := func(connections int64, sent uint64) {
		s.checkHealth(sample{took: time.Hour, sent: 3600 * sent, connections: connections})
	}
	look(0, 0)
	if why := s.health.reason(); why != "" {
		t.Fatalf("unwell at first: %s", why)
	}
	s.d.Tel.Properties.Set(map[string]string{PropertyMaxConnections: "10", PropertyBandwidth: "8k"})
	for _, c := range []struct {
		connections int64
		why         string
	}{{9, ""}, {10, reasonCrowded}, {9, reasonCrowded}, {8, ""}, {9, ""}} {
		look(c.connections, 500)
		if why := s.health.reason(); why != c.why {
			t.Errorf("%d connections: %q, want %q", c.connections, why, c.why)
		}
	}
	if load := s.health.load(); load != 0.9 {
		t.Errorf("load %v, want that of the connections", load)
	}
	look(0, 500)
	if load := s.health.load(); load != 0.5 {
		t.Errorf("load %v, want that of the line", load)
	}
	if err := errors.Join(s.store.root.Remove(probeFile), s.store.root.Mkdir(probeFile, 0o700)); err != nil { // nothing can be written there
		t.Fatal(err)
	}
	look(0, 0)
	if why := s.health.reason(); !strings.HasPrefix(why, "disk: ") {
		t.Errorf("without a place to write: %q", why)
	}
	s.d.Tel.Properties.Set(map[string]string{PropertyBandwidth: "fast"})
	if s.bandwidth.Load() != 8000 {
		t.Error("a rate that cannot be read was taken")
	}
}
