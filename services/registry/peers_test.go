package registry_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flix-lab/flix/services/addresstest"
	"github.com/flix-lab/flix/services/lookup/eureka"
	"github.com/flix-lab/flix/services/registry"
	"github.com/flix-lab/flix/topology"
)

// pair starts two registries that are each other's peers; each list names both,
// as lists do that are the same everywhere.
func pair(t *testing.T) (a, b *fixture) {
	t.Helper()
	urls := make([]string, 2)
	peers := func() []string { return urls }
	listen := func(n int) net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		urls[n] = "http://" + l.Addr().String()
		return l
	}
	la, lb := listen(0), listen(1)
	a = startWith(t, topology.LabTiming(), func(d *registry.Deps) { _ = d.Listener.Close(); d.Listener, d.Peers = la, peers })
	b = startWith(t, topology.LabTiming(), func(d *registry.Deps) { _ = d.Listener.Close(); d.Listener, d.Peers = lb, peers })
	a.url, b.url = urls[0]+"/eureka/v2", urls[1]+"/eureka/v2"
	for _, f := range []*fixture{a, b} {
		eventually(t, func() error {
			if r := f.do("GET", "/apps", eureka.JSON, ""); r.status != http.StatusOK {
				return fmt.Errorf("%d %s", r.status, r.body)
			}
			return nil
		})
	}
	return a, b
}

// shows waits until a registry shows an instance with a status, or not at all
// for "".
func (f *fixture) shows(id, status string) {
	f.t.Helper()
	eventually(f.t, func() error {
		r := f.do("GET", "/instances/"+id, eureka.JSON, "")
		if status == "" && r.status == http.StatusNotFound {
			return nil
		}
		if in, err := eureka.DecodeInstance(r.body, eureka.JSON); err != nil || in.Status != status {
			return fmt.Errorf("%s: %d %s, want %q", id, r.status, r.body, status)
		}
		return nil
	})
}

func TestPeersTellOneAnother(t *testing.T) {
	a, b := pair(t)
	a.register("KV", "i-1", "UP", 1)
	b.shows("i-1", "UP")
	b.register("KV", "i-2", "STARTING", 1)
	a.shows("i-2", "STARTING")
	a.want(http.StatusOK, "PUT", "/apps/KV/i-1/status?value=OUT_OF_SERVICE")
	b.shows("i-1", "OUT_OF_SERVICE")
	b.want(http.StatusOK, "DELETE", "/apps/KV/i-1/status")
	a.shows("i-1", "UP")
	a.want(http.StatusOK, "PUT", "/apps/KV/i-1/metadata?colour=red")
	eventually(t, func() error {
		if r := b.do("GET", "/apps/KV/i-1", eureka.JSON, ""); !bytes.Contains(r.body, []byte(`"colour":"red"`)) {
			return fmt.Errorf("%s", r.body)
		}
		return nil
	})
	b.clock.advance(2 * time.Second)
	b.want(http.StatusOK, "PUT", "/apps/KV/i-2?lastDirtyTimestamp=1")
	eventually(t, func() error {
		in, err := eureka.DecodeInstance(a.do("GET", "/apps/KV/i-2", eureka.JSON, "").body, eureka.JSON)
		if err != nil || a.counted(t, "registry_replication_received_total", `action="Heartbeat"`) == 0 {
			return fmt.Errorf("no heartbeat came: %+v %v", in, err)
		}
		return nil
	})
	a.want(http.StatusOK, "DELETE", "/apps/KV/i-1")
	b.shows("i-1", "")
	// An answer is noted after the peer has done what it was told.
	eventually(t, func() error {
		for _, p := range a.explain().Peers {
			if want := map[bool]string{true: "self", false: "ok"}[strings.HasPrefix(a.url, p.URL[:len(p.URL)-len("/eureka/v2")])]; p.State != want || p.Dropped != 0 {
				return fmt.Errorf("peer %+v, want %s", p, want)
			}
		}
		return nil
	})
}

// TestNoResurrection: what a peer had queued from before an instance left, such
// as a registration that overtakes nothing, must not raise it again.
func TestNoResurrection(t *testing.T) {
	f := start(t, topology.LabTiming())
	f.register("KV", "i-1", "UP", 100)
	f.want(http.StatusOK, "DELETE", "/apps/KV/i-1")
	late := f.do("POST", "/apps/KV", eureka.JSON, stock("KV", "i-1", "UP", 100), "X-Netflix-Discovery-Replication", "true")
	if late.status != http.StatusNoContent {
		t.Fatalf("%d %s: the peer would try again", late.status, late.body)
	}
	f.want(http.StatusNotFound, "GET", "/apps/KV/i-1")
	in, err := eureka.DecodeInstance([]byte(stock("KV", "i-1", "UP", 99)), eureka.JSON)
	if err != nil {
		t.Fatal(err)
	}
	out := f.batch(eureka.Replication{App: "KV", ID: "i-1", Action: eureka.ActRegister, Instance: in})
	if len(out) != 1 || out[0].Status != http.StatusOK {
		t.Fatalf("%+v", out)
	}
	f.want(http.StatusNotFound, "GET", "/apps/KV/i-1")
	// A newer record is of another life, and the instance itself is believed.
	f.do("POST", "/apps/KV", eureka.JSON, stock("KV", "i-1", "UP", 101), "X-Netflix-Discovery-Replication", "true")
	f.want(http.StatusOK, "GET", "/apps/KV/i-1")
	f.want(http.StatusOK, "DELETE", "/apps/KV/i-1")
	f.register("KV", "i-1", "UP", 100)
	f.want(http.StatusOK, "GET", "/apps/KV/i-1")
}

// batch sends a replication request and returns its outcomes.
func (f *fixture) batch(items ...eureka.Replication) []eureka.Outcome {
	f.t.Helper()
	body, err := json.Marshal(eureka.Batch{List: items})
	if err != nil {
		f.t.Fatal(err)
	}
	r := f.do("POST", "/peerreplication/batch/", eureka.JSON, string(body))
	out, err := eureka.DecodeOutcomes(r.body)
	if r.status != http.StatusOK || err != nil {
		f.t.Fatalf("%d %s %v", r.status, r.body, err)
	}
	return out.List
}

func TestBatch(t *testing.T) {
	f := start(t, topology.LabTiming())
	f.register("KV", "i-1", "UP", 100)
	dirty := func(n eureka.Num) *eureka.Num { return &n }
	in, err := eureka.DecodeInstance([]byte(stock("KV", "i-2", "UP", 5)), eureka.JSON)
	if err != nil {
		t.Fatal(err)
	}
	out := f.batch(
		eureka.Replication{App: "KV", ID: "i-1", Action: eureka.ActHeartbeat, LastDirty: dirty(100), Status: "UP"},
		eureka.Replication{App: "KV", ID: "i-1", Action: eureka.ActHeartbeat, LastDirty: dirty(101)},
		eureka.Replication{App: "KV", ID: "i-1", Action: eureka.ActHeartbeat, LastDirty: dirty(99)},
		eureka.Replication{App: "kv", ID: "i-2", Action: eureka.ActRegister, Instance: in},
		eureka.Replication{App: "KV", ID: "i-2", Action: eureka.ActStatusUpdate, Status: "OUT_OF_SERVICE", LastDirty: dirty(6)},
		eureka.Replication{App: "KV", ID: "i-3", Action: eureka.ActStatusUpdate, Status: "UP"},
		eureka.Replication{App: "KV", ID: "i-1", Action: eureka.ActCancel, LastDirty: dirty(50)},
		eureka.Replication{App: "KV", ID: "i-1", Action: eureka.ActCancel},
		eureka.Replication{App: "KV", ID: "i-2", Action: eureka.ActDeleteOverride, Status: "UP"},
		eureka.Replication{App: "KV", ID: "i-2", Action: "Dance"},
		eureka.Replication{App: "KV", ID: "i-4", Action: eureka.ActRegister},
	)
	want := []int{200, 404, 409, 200, 200, 404, 404, 200, 200, 400, 400}
	for i, o := range out {
		if o.Status != want[i] || (o.Instance != nil) != (o.Status == http.StatusConflict) {
			t.Errorf("item %d: %+v, want %d", i, o, want[i])
		}
	}
	f.shows("i-1", "")
	f.shows("i-2", "UP")
	for _, body := range []string{`{`, `{}`, `[]`} {
		if r := f.do("POST", "/peerreplication/batch/", eureka.JSON, body); r.status != http.StatusBadRequest {
			t.Errorf("%s: %d", body, r.status)
		}
	}
}

// accept answers a batch as a peer that takes all of it.
func accept(w http.ResponseWriter, b eureka.Batch) {
	_ = json.NewEncoder(w).Encode(eureka.Outcomes{List: slices.Repeat([]eureka.Outcome{{Status: http.StatusOK}}, len(b.List))})
}

// TestPeerThatIsAway: nothing is lost that a peer missed, and it is not flooded.
func TestPeerThatIsAway(t *testing.T) {
	var (
		calls atomic.Int64
		away  atomic.Bool
		got   = make(chan eureka.Batch, 100)
	)
	away.Store(true)
	peer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		if away.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			calls.Add(1)
			return
		}
		var b eureka.Batch
		if err := json.NewDecoder(r.Body).Decode(&b); err != nil {
			t.Errorf("body: %v", err)
		}
		got <- b
		accept(w, b)
	}))
	t.Cleanup(peer.Close)
	begun := time.Now()
	f := startWith(t, topology.ProductionTiming(), func(d *registry.Deps) { d.Peers = func() []string { return []string{peer.URL} } })
	for n := range 300 {
		f.register("KV", fmt.Sprintf("i-%d", n), "UP", 1)
		f.want(http.StatusOK, "PUT", fmt.Sprintf("/apps/KV/i-%d?lastDirtyTimestamp=1", n))
	}
	f.want(http.StatusOK, "DELETE", "/apps/KV/i-0")
	before := calls.Load()
	eventually(t, func() error {
		if p := f.explain().Peers; len(p) != 1 || p[0].State != "failing" || p[0].Error == "" {
			return fmt.Errorf("%+v", p)
		}
		if calls.Load() == before { // what was under way may be from before it left
			return errors.New("it was not tried again")
		}
		return nil
	})
	// Half a second, a second, two … lie between two attempts at least.
	n := calls.Load()
	if took, least := time.Since(begun), time.Duration(1<<(n-1)-1)*time.Second/2; took < least {
		t.Errorf("%d requests in %v to a peer that is away, want %v for as many", n, took, least)
	}
	away.Store(false)
	seen, cancelled := map[string]bool{}, false
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	for len(seen) < 299 || !cancelled {
		select {
		case b := <-got:
			if len(b.List) > 250 {
				t.Errorf("a batch of %d", len(b.List))
			}
			for _, it := range b.List {
				switch it.Action {
				case eureka.ActRegister:
					if it.Instance == nil || it.Instance.LastDirty != 1 {
						t.Errorf("register %+v", it)
					}
					seen[it.ID] = true
				case eureka.ActCancel:
					cancelled = cancelled || it.ID == "i-0"
				}
			}
		case <-ctx.Done():
			t.Fatalf("%d of 299 registrations and the cancellation (%v) came", len(seen), cancelled)
		}
	}
	if seen["i-0"] {
		t.Error("an instance that had left was registered")
	}
}

// An operator's metadata wait for a peer that is away, as an override does: no
// renewal brings them.
func TestMetadataWaitForAPeer(t *testing.T) {
	var (
		away  atomic.Bool
		calls atomic.Int64
		told  = make(chan eureka.Replication, 100)
	)
	away.Store(true)
	peer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		var b eureka.Batch
		if away.Load() || json.NewDecoder(r.Body).Decode(&b) != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		for _, it := range b.List {
			told <- it
		}
		accept(w, b)
	}))
	t.Cleanup(peer.Close)
	f := startWith(t, topology.ProductionTiming(), func(d *registry.Deps) { d.Peers = func() []string { return []string{peer.URL} } })
	f.register("KV", "i-1", "UP", 1)
	f.want(http.StatusOK, "PUT", "/apps/KV/i-1/metadata?colour=red")
	before := calls.Load()
	eventually(t, func() error {
		if calls.Load() == before {
			return errors.New("it was not tried again")
		}
		return nil
	})
	f.register("KV", "i-2", "UP", 1)
	f.want(http.StatusOK, "PUT", "/apps/KV/i-1?lastDirtyTimestamp=1")
	f.clock.advance(time.Minute)
	away.Store(false)
	timeout := time.After(patience)
	for {
		select {
		case it := <-told:
			if it.ID == "i-2" {
				t.Error("an instance's own word outlives its next renewal")
			}
			if it.Action == eureka.ActRegister && it.ID == "i-1" {
				if it.Instance.Metadata["colour"] != "red" {
					t.Errorf("told without the metadata: %v", it.Instance.Metadata)
				}
				return
			}
		case <-timeout:
			t.Fatal("the metadata never reached the peer")
		}
	}
}

// TestStartsWithPeersContents: a registry that starts beside another does not
// answer with less than there is.
func TestStartsWithPeersContents(t *testing.T) {
	old := start(t, topology.LabTiming())
	old.register("KV", "i-1", "UP", 1)
	old.want(http.StatusOK, "PUT", "/apps/KV/i-1/status?value=OUT_OF_SERVICE")
	f := startWith(t, topology.LabTiming(), func(d *registry.Deps) { d.Peers = func() []string { return []string{old.url} } })
	eventually(t, func() error {
		switch r := f.do("GET", "/apps", eureka.JSON, ""); {
		case r.status == http.StatusForbidden:
			return fmt.Errorf("not yet")
		case r.status != http.StatusOK || !bytes.Contains(r.body, []byte(`"status":"OUT_OF_SERVICE"`)):
			t.Fatalf("it answered with less than there is: %d %s", r.status, r.body)
		}
		return nil
	})
}

func TestEmptyWait(t *testing.T) {
	away := "http://" + addresstest.Refusing(t)
	f := startWith(t, topology.LabTiming(), func(d *registry.Deps) {
		d.EmptyWait, d.Peers = time.Minute, func() []string { return []string{away} }
	})
	f.register("KV", "i-1", "UP", 1) // always
	f.want(http.StatusForbidden, "GET", "/apps")
	f.want(http.StatusForbidden, "GET", "/vips/kv")
	f.clock.advance(2 * time.Minute)
	eventually(t, func() error {
		if r := f.do("GET", "/apps", eureka.JSON, ""); r.status != http.StatusOK {
			return fmt.Errorf("%d %s", r.status, r.body)
		}
		return nil
	})
}

func TestRemoteRegions(t *testing.T) {
	west := start(t, topology.LabTiming())
	west.register("KV", "w-1", "UP", 1)
	east := startWith(t, topology.LabTiming(), func(d *registry.Deps) {
		d.Remotes = func() map[string][]string {
			return map[string][]string{"us-west": {west.url}, "gone": {"http://127.0.0.1:1"}}
		}
	})
	east.register("KV", "e-1", "STARTING", 1)
	if a := east.apps("/apps"); a.Hash != "STARTING_1_" {
		t.Errorf("without regions: %s", a.Hash)
	}
	a := east.apps("/apps?regions=us-west,nowhere")
	if a.Hash != "STARTING_1_UP_1_" || len(a.Regional) != 1 || len(a.Regional[0].Instances) != 2 {
		t.Errorf("both: %+v", a)
	}
	east.want(http.StatusServiceUnavailable, "GET", "/apps?regions=gone")
	west.want(http.StatusOK, "DELETE", "/apps/KV/w-1")
	east.clock.advance(time.Minute)
	d := east.apps("/apps/delta?regions=us-west")
	if d.Hash != "STARTING_1_" || len(d.Regional) != 1 || d.Regional[0].Instances[1].Action != "DELETED" {
		t.Errorf("delta: %+v", d)
	}
	if r := east.explain().Remotes; len(r) != 2 || !r[1].Copied || r[0].Error == "" {
		t.Errorf("%+v", r)
	}
}

func TestBodies(t *testing.T) {
	f := start(t, topology.LabTiming())
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, stock("KV", "i-z", "UP", 1))
	_ = z.Close()
	if r := f.do("POST", "/apps/KV", eureka.JSON, zipped.String(), "Content-Encoding", "gzip"); r.status != http.StatusNoContent {
		t.Errorf("zipped: %d %s", r.status, r.body)
	}
	var bomb bytes.Buffer
	z = gzip.NewWriter(&bomb)
	_, _ = z.Write(make([]byte, 64<<20))
	_ = z.Close()
	if r := f.do("POST", "/apps/KV", eureka.JSON, bomb.String(), "Content-Encoding", "gzip"); r.status != http.StatusRequestEntityTooLarge {
		t.Errorf("a body that grows: %d %s", r.status, r.body)
	}
	if r := f.do("POST", "/apps/KV", eureka.JSON, "x", "Content-Encoding", "br"); r.status != http.StatusUnsupportedMediaType || r.header.Get("Accept-Encoding") != "gzip" {
		t.Errorf("an encoding nobody knows: %d, %v", r.status, r.header)
	}
}

// TestHundredMegabytes: a body that says how long it is is refused at its
// header; one that does not, at the limit.
func TestHundredMegabytes(t *testing.T) {
	f := start(t, topology.LabTiming())
	addr := strings.TrimSuffix(strings.TrimPrefix(f.url, "http://"), "/eureka/v2")
	for name, head := range map[string]string{
		"declared": "Content-Length: 104857600\r\n\r\n",
		"chunked":  "Transfer-Encoding: chunked\r\n\r\n200000\r\n" + strings.Repeat("x", 0x200000),
	} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		go func() {
			_, _ = io.WriteString(c, "POST /eureka/v2/apps/KV HTTP/1.1\r\nHost: r\r\nContent-Type: application/json\r\n"+head)
		}()
		b := make([]byte, 64)
		n, err := io.ReadAtLeast(c, b, 12)
		if err != nil || !strings.HasPrefix(string(b[:n]), "HTTP/1.1 413") {
			t.Errorf("%s: %q %v", name, b[:n], err)
		}
		_ = c.Close()
	}
}
