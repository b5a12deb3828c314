package resilience

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

// keysOf lists the keys of one event in their order, each with its JSON type.
func keysOf(t *testing.T, event []byte) (out []string) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(event)))
	d.UseNumber()
	var walk func(prefix string)
	typ := ""
	walk = func(prefix string) {
		for d.More() {
			k, err := d.Token()
			if err != nil {
				t.Fatal(err)
			}
			v, err := d.Token()
			if err != nil {
				t.Fatal(err)
			}
			name := prefix + k.(string)
			if name == "type" {
				typ = v.(string)
			}
			kind := "null"
			switch v.(type) {
			case string:
				kind = "string"
			case json.Number:
				kind = "number"
			case bool:
				kind = "boolean"
			case json.Delim:
				kind = "object"
			}
			out = append(out, fmt.Sprintf("%s %s %s", typ, name, kind))
			if kind == "object" {
				walk(name + ".")
			}
		}
		if _, err := d.Token(); err != nil { // the closing brace
			t.Fatal(err)
		}
	}
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	walk("")
	return out
}

// The golden list is what SerialHystrixDashboardData of Hystrix 1.5.18 writes:
// keys, types and order.
func TestStreamHasHystrixsKeys(t *testing.T) {
	want, err := os.ReadFile("testdata/hystrix.stream.keys")
	if err != nil {
		t.Fatal(err)
	}
	g := NewGroup(telemetry.Discard(), Options{Group: "playback"})
	cmd := New[string](g, "Get", Options{})
	_, _ = cmd.Do(t.Context(), ok)
	c := NewCollapser(g, "GetMany", CollapserOptions{Options: Options{Group: "playback"}, Delay: time.Microsecond}, func(_ context.Context, keys []int) (map[int]int, error) {
		return map[int]int{1: 1}, nil
	})
	if _, err := c.Do(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	g.Wait()
	seen := map[string]bool{}
	var got []string
	for _, e := range g.dashboard(false) {
		keys := keysOf(t, e)
		typ, _, _ := strings.Cut(keys[0], " ")
		if !seen[typ] {
			seen[typ] = true
			got = append(got, keys...)
		}
	}
	if diff := cmp.Diff(strings.Fields(string(want)), strings.Fields(strings.Join(got, "\n"))); diff != "" {
		t.Errorf("keys of the stream (-Hystrix +ours):\n%s", diff)
	}
}

func TestStreamTellsWhatHappened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(telemetry.Discard(), Options{Timeout: 100 * time.Millisecond, MaxConcurrent: 2, Group: "store"})
		cmd := New[string](g, "Get", Options{})
		sleep := func(d time.Duration, err error) func(context.Context) (string, error) {
			return func(ctx context.Context) (string, error) {
				select {
				case <-time.After(d):
					return "", err
				case <-ctx.Done():
					return "", ctx.Err()
				}
			}
		}
		second := func(context.Context, error) (string, error) { time.Sleep(20 * time.Millisecond); return "stale", nil }
		for range 4 {
			_, _ = cmd.Do(t.Context(), sleep(10*time.Millisecond, nil))
		}
		_, _ = cmd.DoFallback(t.Context(), sleep(time.Second, nil), second)
		_, _ = cmd.Do(t.Context(), sleep(0, errBroken))
		_, _ = cmd.Do(t.Context(), sleep(0, services.Errorf(services.NotFound, "no")))
		h := g.circuit("Get", Options{}).dashboard(0, g.clock.now(), true)
		want := hystrixCommand{
			Type: "HystrixCommand", Name: "Get", Group: "store", ErrorPercentage: 33, ErrorCount: 2, RequestCount: 6,
			RollingCountBadRequests: 1, RollingCountExceptionsThrown: 2, RollingCountFailure: 1, RollingCountFallbackMissing: 1,
			RollingCountFallbackSuccess: 1, RollingCountSuccess: 4, RollingCountTimeout: 1, RollingMaxConcurrentExecutionCount: 1,
			LatencyExecuteMean: 20, LatencyTotalMean: 22,
			BreakerVolume: 20, BreakerSleep: 5000, BreakerErrorPercent: 50, BreakerEnabled: true, Strategy: "SEMAPHORE", ThreadTimeout: 100,
			Timeout: 100, InterruptOnTimeout: true, MaxConcurrent: 2, MaxFallbacks: 2, StatisticalWindow: 10_000, RequestCacheEnabled: true,
			ReportingHosts: 1, ThreadPool: "store", State: "closed",
		}
		if run, total := h.LatencyExecute, h.LatencyTotal; run.P100 != 100 || total.P100 != 120 || run.P50 < 9 || run.P50 > 11 {
			t.Errorf("times %+v, with fallback %+v", run, total)
		}
		h.LatencyExecute, h.LatencyTotal = percentiles{}, percentiles{}
		if diff := cmp.Diff(want, h); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		time.Sleep(11 * time.Second) // the window has rolled on
		h = g.circuit("Get", Options{}).dashboard(0, g.clock.now(), false)
		if h.RequestCount != 0 || h.RollingCountSuccess != 0 || h.LatencyExecute.P100 != 100 {
			t.Errorf("a window later: %+v", h)
		}
	})
}

// readEvents reads lines of a stream until n are of the given start.
func readEvents(t *testing.T, r *bufio.Reader, start string, n int) (lines []string) {
	t.Helper()
	for n > 0 {
		l, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("the stream ended: %v", err)
		}
		lines = append(lines, strings.TrimSuffix(l, "\n"))
		if strings.HasPrefix(l, start) {
			n--
		}
	}
	return lines
}

func openStream(t *testing.T, url string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+PathStream+"?delay=50", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func TestStreamPingsBeforeThereIsACommand(t *testing.T) {
	tel := telemetry.Discard()
	g := NewGroup(tel, Options{})
	srv := httptest.NewServer(tel.AdminMux("key"))
	defer srv.Close()
	defer srv.CloseClientConnections()
	resp := openStream(t, srv.URL)
	h := resp.Header
	if h.Get("Content-Type") != "text/event-stream;charset=UTF-8" || h.Get("Cache-Control") != "no-cache, no-store, max-age=0, must-revalidate" || h.Get("Pragma") != "no-cache" {
		t.Errorf("header %v", h)
	}
	r := bufio.NewReader(resp.Body)
	for i, l := range readEvents(t, r, "ping: ", 2) {
		if want := []string{"ping: ", ""}[i%2]; l != want {
			t.Errorf("line %d is %q, want %q", i, l, want)
		}
	}
	_, _ = New[string](g, "Get", Options{}).Do(t.Context(), ok)
	lines := readEvents(t, r, "data: ", 1)
	if !strings.HasPrefix(lines[len(lines)-1], `data: {"type":"HystrixCommand","name":"Get",`) {
		t.Errorf("the first event is %q", lines[len(lines)-1])
	}
}

func TestStreamHasRoomForFive(t *testing.T) {
	tel := telemetry.Discard()
	g := NewGroup(tel, Options{})
	srv := httptest.NewServer(tel.AdminMux("key"))
	defer srv.Close()
	defer srv.CloseClientConnections()
	for range streamClients {
		readEvents(t, bufio.NewReader(openStream(t, srv.URL).Body), "ping: ", 1)
	}
	if resp := openStream(t, srv.URL); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the sixth client got %s", resp.Status)
	}
	if n := g.streams.open.Load(); n != streamClients {
		t.Errorf("%d clients are counted", n)
	}
}

// Hystrix's dashboards once moved the breaker by looking at it.
func TestReadingChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(telemetry.Discard(), Options{BreakerVolume: 2, BreakerSleep: time.Second})
		cmd := New[string](g, "Get", Options{})
		for range 2 {
			_, _ = cmd.Do(t.Context(), broken)
		}
		time.Sleep(2 * time.Second) // the next call is a probe
		before := g.Snapshot()
		for range 100 {
			g.dashboard(true)
			g.Snapshot()
		}
		if diff := cmp.Diff(before, g.Snapshot()); diff != "" {
			t.Errorf("reading changed (-before +after):\n%s", diff)
		}
		if _, err := cmd.Do(t.Context(), ok); err != nil {
			t.Errorf("the probe was taken by a reader: %v", err)
		}
	})
}

func TestCommandsEndpointAsksForTheKey(t *testing.T) {
	tel := telemetry.Discard()
	g := NewGroup(tel, Options{})
	New[string](g, "Get", Options{})
	mux := tel.AdminMux("key")
	for key, want := range map[string]int{"": 401, "wrong": 401, "key": 200} {
		r := httptest.NewRequest(http.MethodGet, PathCommands, nil)
		r.Header.Set("Authorization", "Bearer "+key)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("key %q: status %d, want %d", key, w.Code, want)
		}
		var states []State
		if want == 200 && (json.Unmarshal(w.Body.Bytes(), &states) != nil || len(states) != 1 || states[0].Name != "Get") {
			t.Errorf("answer %s", w.Body)
		}
	}
}
