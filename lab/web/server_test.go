package web

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// fakeLab is a lab as a daemon tells of it.
type fakeLab struct {
	mu     sync.Mutex
	world  control.World
	status control.Status
	plays  []control.Session
	events []control.Event
	err    error
	poked  chan struct{} // room for one: an event was added
}

func newFakeLab(t *testing.T) *fakeLab {
	topo, err := topology.Preset(2)
	if err != nil {
		t.Fatal(err)
	}
	return &fakeLab{world: control.World{Lab: "test", Topology: topo}, poked: make(chan struct{}, 1), status: control.Status{Regions: []control.RegionStatus{{Name: "us-east", State: "ready", Share: 1, Instances: []control.InstanceStatus{
		{Name: "us-east/a/play/1", Role: "play", State: "running"}, {Name: "us-east/us-east-ix/oca/1", Role: "oca", Zone: "us-east-ix", State: "running"},
	}}}}}
}

func (l *fakeLab) World(context.Context) (control.World, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.world, l.err
}

func (l *fakeLab) Status(context.Context) (control.Status, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.status
	s.Regions = slices.Clone(s.Regions) // the test changes its own
	return s, l.err
}

func (l *fakeLab) Sessions(context.Context) ([]control.Session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.plays, nil
}

func (l *fakeLab) Events(ctx context.Context, seq uint64, follow bool, f func(control.Event) error) error {
	for {
		l.mu.Lock()
		all := l.events
		l.mu.Unlock()
		for _, e := range all {
			if e.Seq > seq {
				seq = e.Seq
				if err := f(e); err != nil {
					return err
				}
			}
		}
		if !follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.poked:
		}
	}
}

func (l *fakeLab) happens(e control.Event, change func()) {
	l.mu.Lock()
	l.events = append(l.events, e)
	if change != nil {
		change()
	}
	l.mu.Unlock()
	l.poked <- struct{}{}
}

// fakeAPI is a region's way to the API.
type fakeAPI struct {
	region string
	fail   *atomic.Int32 // requests that fail first
	closed *atomic.Int32
}

func (a *fakeAPI) Close() { a.closed.Add(1) }

func (a *fakeAPI) RoundTrip(r *http.Request) (*http.Response, error) {
	if a.fail.Add(-1) >= 0 {
		return nil, services.Errorf(services.Unavailable, "away")
	}
	body := ""
	if r.Body != nil {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		body = string(b)
	}
	answer := strings.Join([]string{a.region, r.Method, r.URL.Path, r.URL.RawQuery, body, r.Header.Get("Origin"), r.Header.Get("Authorization")}, "|")
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(answer)), Request: r}, nil
}

type rig struct {
	t    *testing.T
	lab  *fakeLab
	url  string
	host string
	fail atomic.Int32
	// closed counts the ways that were closed.
	closed atomic.Int32
	stop   func() error
	ended  func() error // waits for the end, and does not bring it about
	ln     net.Listener
}

func serve(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, lab: newFakeLab(t)}
	ctx, cancel := context.WithCancel(context.Background())
	s, err := New(ctx, Config{Lab: r.lab, Poll: 10 * time.Millisecond, Offer: Viewer{"demo@flix.test", "pw"}, Connect: func(_ control.World, region string) (API, error) {
		return &fakeAPI{region, &r.fail, &r.closed}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.ln, r.host = ln, ln.Addr().String()
	r.url = "http://" + r.host
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	r.ended = sync.OnceValue(func() error { return <-done })
	r.stop = func() error { cancel(); return r.ended() }
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := r.stop(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return r
}

func (r *rig) ask(method, path, body string, header ...string) (*http.Response, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp, string(b)
}

func TestPage(t *testing.T) {
	r := serve(t)
	for path, kind := range map[string]string{"/": "text/html", "/assets/main.js": "text/javascript", "/assets/flix.css": "text/css", "/vendor/shaka/shaka-player.js": "text/javascript", "/vendor/shaka/LICENSE": "text/plain", "/favicon.ico": "image/svg+xml"} {
		resp, body := r.ask("GET", path, "")
		if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), kind) || len(body) == 0 {
			t.Errorf("%s: %s %s", path, resp.Status, resp.Header.Get("Content-Type"))
		}
		if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
	}
	for _, path := range []string{"/assets/", "/assets/none.js", "/assets/../server.go", "/vendor/shaka/../../doc.go"} {
		if resp, _ := r.ask("GET", path, ""); resp.StatusCode == 200 && !strings.Contains(resp.Request.URL.Path, "doc.go") && strings.HasPrefix(resp.Request.URL.Path, "/assets") {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	_, body := r.ask("GET", "/lab/world", "")
	var w World
	if err := json.Unmarshal([]byte(body), &w); err != nil || w.Lab != "test" || len(w.Regions) != 2 || w.Home != "us-east" || len(w.Regions[0].Sites) < 2 || w.ReportS != 2 {
		t.Errorf("%v: %s", err, body)
	}
}

func TestOnlyItsOwnPage(t *testing.T) {
	r := serve(t)
	_, port, _ := strings.Cut(r.host, ":")
	for _, c := range []struct {
		name, path string
		header     []string
		want       int
	}{
		{"a name of another site", "/", []string{"Host", "evil.example:" + port}, 403},
		{"another port", "/", []string{"Host", "127.0.0.1:1"}, 403},
		{"a name that ends like ours", "/", []string{"Host", "evillocalhost:" + port}, 403},
		{"localhost", "/", []string{"Host", "localhost:" + port}, 200},
		{"a name below localhost", "/", []string{"Host", "flix.localhost:" + port}, 200},
		{"another page's script", "/discovery/rows", []string{"Origin", "http://evil.example"}, 403},
		{"a file", "/discovery/rows", []string{"Origin", "null"}, 403},
		{"another port's page", "/discovery/rows", []string{"Origin", "http://127.0.0.1:1"}, 403},
		{"its own", "/discovery/rows", []string{"Origin", r.url}, 200},
		{"another page's image", "/discovery/rows", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, 403},
		{"a link on another page", "/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, 200},
		{"a stock player of another page", "/play/stock/tok/manifest.mpd", []string{"Origin", "http://player.example"}, 200},
		{"the same, near a region", "/near/us-west/play/stock/tok/steering.json", []string{"Origin", "http://player.example"}, 200},
	} {
		if resp, body := r.ask("GET", c.path, "", c.header...); resp.StatusCode != c.want {
			t.Errorf("%s: %s %.100s", c.name, resp.Status, body)
		}
	}
}

func TestPassesOn(t *testing.T) {
	r := serve(t)
	r.fail.Store(2) // as when a region has just gone
	_, body := r.ask("POST", "/near/us-west/play/start?x=1", `{"a":1}`, "Origin", r.url, "Authorization", "Bearer t")
	if body != `us-west|POST|/play/start|x=1|{"a":1}||Bearer t` {
		t.Errorf("%s", body)
	}
	if _, body := r.ask("GET", "/discovery/rows", ""); body != "|GET|/discovery/rows||||" {
		t.Errorf("%s", body)
	}
	if resp, body := r.ask("GET", "/near/nowhere/discovery/rows", ""); resp.StatusCode != 404 || !strings.Contains(body, "us-east") {
		t.Errorf("%s %s", resp.Status, body)
	}
	if resp, _ := r.ask("POST", "/play/start", strings.Repeat("x", maxBody+1)); resp.StatusCode != 400 {
		t.Errorf("a body without end: %s", resp.Status)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if n := r.closed.Load(); n != 2 {
		t.Errorf("%d ways closed at the end, want 2", n)
	}
}

// stream reads server-sent events.
type stream struct {
	t    *testing.T
	body io.ReadCloser
	in   *bufio.Scanner
	// passed are events that came before one that was waited for.
	passed []streamed
}

type streamed struct{ kind, data string }

func (r *rig) live() *stream {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), "GET", r.url+"/lab/live", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { resp.Body.Close() })
	return &stream{t: r.t, body: resp.Body, in: bufio.NewScanner(resp.Body)}
}

// next returns the data of the next event of a kind that says something. Events
// of one kind keep their order; those of two may come in any.
func (s *stream) next(kind, says string) string {
	s.t.Helper()
	for k, e := range s.passed {
		if e.kind == kind && strings.Contains(e.data, says) {
			s.passed = slices.Delete(s.passed, k, k+1)
			return e.data
		}
	}
	now := ""
	for s.in.Scan() {
		line := s.in.Text()
		if k, ok := strings.CutPrefix(line, "event: "); ok {
			now = k
		}
		data, ok := strings.CutPrefix(line, "data: ")
		switch {
		case !ok:
		case now == kind && strings.Contains(data, says):
			return data
		default:
			s.passed = append(s.passed, streamed{now, data})
		}
	}
	s.t.Fatalf("the stream ended before %s said %s", kind, says)
	return ""
}

func TestLive(t *testing.T) {
	r := serve(t)
	r.lab.mu.Lock()
	r.lab.events = []control.Event{{Seq: 1, Text: "it began"}}
	r.lab.mu.Unlock()
	a := r.live()
	var s Snapshot
	if err := json.Unmarshal([]byte(a.next("lab", "us-east")), &s); err != nil || len(s.Regions) != 1 || s.Regions[0].Running != 1 || s.Regions[0].Instances != 1 || len(s.Regions[0].Appliances) != 1 {
		t.Errorf("%v %+v", err, s)
	}
	a.next("log", "it began")
	r.lab.happens(control.Event{Seq: 2, Text: "a region left"}, func() {
		r.lab.status.Regions[0].State = "evacuated"
		r.lab.plays = []control.Session{
			{Session: "s1", State: "playing", Updated: time.Now(), Appliance: "us-east/us-east-ix/oca/1"},
			{Session: "s2", State: "stopped", Updated: time.Now()}, {Session: "s3", State: "playing", Updated: time.Now().Add(-time.Hour)},
		}
	})
	a.next("log", "a region left")
	if data := a.next("lab", "evacuated"); !strings.Contains(data, `"s1"`) || strings.Contains(data, `"s2"`) || strings.Contains(data, `"s3"`) {
		t.Errorf("%s", data)
	}
	// Who comes later is told what is known.
	b := r.live()
	b.next("lab", "evacuated")
	b.next("log", "it began")
	r.lab.mu.Lock()
	r.lab.err = services.Errorf(services.Unavailable, "the daemon is away")
	r.lab.mu.Unlock()
	a.next("lab", "the daemon is away")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	for a.in.Scan() { // the stream ends with the server
	}
}

func TestTooManyWatchers(t *testing.T) {
	w := newWatch(Config{Poll: time.Second}, nil)
	for range maxWatchers {
		if _, err := w.join(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.join(); services.KindOf(err) != services.Exhausted {
		t.Errorf("%v", err)
	}
	w.mu.Lock()
	for range backlog + 1 { // nobody reads
		w.tell([]byte("x"))
	}
	w.mu.Unlock()
	if w.watched() {
		t.Error("browsers that do not read are kept")
	}
	w.end()
	if _, err := w.join(); services.KindOf(err) != services.Unavailable {
		t.Errorf("after the end: %v", err)
	}
}

func TestNewLabNewWays(t *testing.T) {
	r := serve(t)
	ports := []control.PortRange{{First: 20064, Last: 20127, Region: "us-west"}, {First: 20000, Last: 20063, Region: "us-east"}}
	r.lab.mu.Lock()
	r.lab.world.Ports = slices.Clone(ports)
	r.lab.mu.Unlock()
	a := r.live()
	a.next("lab", "us-east")
	r.ask("GET", "/near/us-west/x", "")
	// The same ports in another order are the same lab.
	r.lab.happens(control.Event{Seq: 1, Text: "nothing"}, func() {
		slices.Reverse(ports)
		r.lab.world.Ports = ports
		r.lab.status.Regions[0].State = "degraded"
	})
	a.next("lab", "degraded")
	if n := r.closed.Load(); n != 0 {
		t.Errorf("%d ways of a lab that is the same were closed", n)
	}
	r.lab.happens(control.Event{Seq: 2, Text: "up again"}, func() {
		r.lab.world.DNS = map[string]string{"us-east": "127.0.0.1:1"}
		r.lab.status.Regions[0].State = "starting"
	})
	a.next("lab", "starting")
	// A look asks for the world before the status: it may have come between.
	for until := time.Now().Add(time.Minute); r.closed.Load() == 0 && time.Now().Before(until); <-time.After(time.Millisecond) {
	}
	if n := r.closed.Load(); n != 1 {
		t.Errorf("%d ways into the old lab were closed, want 1", n)
	}
}

// A server whose listener fails ends with that error, and does not wait for
// somebody to end it.
func TestListenerFails(t *testing.T) {
	r := serve(t)
	r.ask("GET", "/lab/world", "")
	_ = r.ln.Close()
	if err := r.ended(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve: %v", err)
	}
}
