package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// form is a body with one field.
type form struct {
	N int `json:"n"`
}

// serve runs an edge; stop ends it and returns what Serve did.
func serve(t *testing.T, e *Edge) (base string, stop func() error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Serve(ctx, ln) }()
	return "http://" + ln.Addr().String(), func() error { cancel(); return <-done }
}

func timing(rpc time.Duration) topology.Timing {
	t := topology.LabTiming()
	t.RPCTimeout = topology.Duration(rpc)
	return t
}

func TestAnswers(t *testing.T) {
	tel := telemetry.Discard()
	e := New("x", tel, timing(time.Second))
	e.Handle(Operation{Pattern: "POST /x/double", Body: form{}, Reply: form{}}, func(r *http.Request) (any, error) {
		f, err := Decode[form](r)
		if err != nil || f.N == 0 {
			return nil, err
		}
		return form{2 * f.N}, nil
	})
	e.Handle(Operation{Pattern: "GET /x/broken"}, func(*http.Request) (any, error) { return nil, errors.New("boom") })
	e.HandleMember(Operation{Pattern: "GET /x/me", Reply: Caller{}}, func(_ *http.Request, c Caller) (any, error) { return c, nil })
	base, stop := serve(t, e)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for _, x := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		reason, want             string
	}{
		{name: "an answer", method: "POST", path: "/x/double", body: `{"n":4}`, status: 200, want: `{"n":8}`},
		{name: "no answer", method: "POST", path: "/x/double", body: `{"n":0}`, status: 204},
		{name: "a field of a newer client", method: "POST", path: "/x/double", body: `{"n":1,"m":2}`, status: 200, want: `{"n":2}`},
		{name: "no body", method: "POST", path: "/x/double", status: 400, reason: "bad_json"},
		{name: "half a body", method: "POST", path: "/x/double", body: `{"n":`, status: 400, reason: "bad_json"},
		{name: "two objects", method: "POST", path: "/x/double", body: `{"n":1} {}`, status: 400, reason: "bad_json"},
		{name: "another type", method: "POST", path: "/x/double", body: `{"n":"1"}`, status: 400, reason: ReasonFields},
		{name: "too large", method: "POST", path: "/x/double", body: `{"n":1` + strings.Repeat(" ", MaxBody) + `}`, status: 413, reason: "body_too_large"},
		{name: "a bug", method: "GET", path: "/x/broken", status: 500},
		{name: "unknown", method: "GET", path: "/x/nowhere", status: 404},
		{name: "nobody", method: "GET", path: "/x/me", status: 403, reason: "no_member"},
		{
			name: "a member", method: "GET", path: "/x/me", status: 200,
			header: []string{HeaderMember, "m", HeaderPlan, "p", HeaderCountry, "US", HeaderDevice, "tv", HeaderClientIP, "198.18.0.1", HeaderISP, "isp"},
			want:   `{"Member":"m","Plan":"p","Device":"tv","ClientIP":"198.18.0.1","ISP":"isp","Country":"US"}`,
		},
	} {
		t.Run(x.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), x.method, base+x.path, strings.NewReader(x.body))
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(x.header); i += 2 {
				r.Header.Set(x.header[i], x.header[i+1])
			}
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != x.status {
				t.Fatalf("status %d, want %d: %s (%v)", resp.StatusCode, x.status, b, err)
			}
			if x.status < 300 {
				if got := strings.TrimSpace(string(b)); got != x.want {
					t.Errorf("answered %s, want %s", got, x.want)
				}
				return
			}
			var p services.Problem
			if err := json.Unmarshal(b, &p); err != nil || p.Kind != services.KindFromHTTP(x.status) || p.Reason != x.reason {
				t.Errorf("problem %+v (%v), want reason %q", p, err, x.reason)
			}
		})
	}
	client.CloseIdleConnections()
	if err := stop(); err != nil {
		t.Error(err)
	}
	families, err := tel.Metrics.Gather()
	names := []string{}
	for _, f := range families {
		names = append(names, f.GetName())
	}
	if err != nil || !slices.Equal(names, []string{"http_request_seconds", "http_requests_total"}) {
		t.Errorf("metrics %v (%v)", names, err)
	}
}

// TestEnd ends an edge with a request in flight: it may finish within the
// grace, and loses its context after it.
func TestEnd(t *testing.T) {
	for _, x := range []struct {
		name    string
		rpc     time.Duration
		release bool // the handler may go on once the edge ends
	}{
		{"within the grace", time.Minute, true},
		{"after the grace", 40 * time.Millisecond, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			e := New("x", telemetry.Discard(), timing(x.rpc))
			began, release := make(chan struct{}), make(chan struct{})
			e.Handle(Operation{Pattern: "GET /x/slow"}, func(r *http.Request) (any, error) {
				close(began)
				select {
				case <-release:
					return form{1}, nil
				case <-r.Context().Done():
					return nil, r.Context().Err()
				}
			})
			base, stop := serve(t, e)
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			answered := make(chan error, 1)
			go func() {
				resp, err := client.Get(base + "/x/slow")
				if err == nil {
					resp.Body.Close()
				}
				answered <- err
			}()
			<-began
			ended := make(chan error, 1)
			go func() { ended <- stop() }()
			if x.release {
				close(release)
			}
			if err := <-answered; (err == nil) != x.release {
				t.Errorf("the request in flight got %v", err)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestServeFailsWithItsListener(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if err := New("x", telemetry.Discard(), timing(time.Second)).Serve(t.Context(), ln); err == nil {
		t.Error("served on a closed listener")
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{``, `{"n":1}`, `{"n":1}{}`, `{"n":"x"}`, `[1]`, `null`, "{\"n\":1}\n", `{"n":1e99}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		v, err := Decode[form](r)
		if err != nil {
			if services.KindOf(err) != services.Invalid || services.ReasonOf(err) != "bad_json" {
				t.Errorf("%q: %v", body, err)
			}
			return
		}
		var want form
		if err := json.Unmarshal(body, &want); err != nil || want != v {
			t.Errorf("%q decodes to %+v, json says %+v (%v)", body, v, want, err)
		}
	})
}
