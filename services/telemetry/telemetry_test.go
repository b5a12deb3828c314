package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/flix-lab/flix/services"
)

func TestSpansAsShown(t *testing.T) {
	tel := New(Config{Instance: "north/a/kv/1", Role: "kv", Region: "north"})
	ctx, parent := tel.Tracer.Start(t.Context(), "outer", trace.WithSpanKind(trace.SpanKindServer))
	_, child := tel.Tracer.Start(ctx, "inner", trace.WithAttributes(attribute.Int("n", 7), attribute.Bool("b", true)))
	End(child, services.Errorf(services.Denied, "no"))
	id := TraceID(ctx)
	if got := tel.Spans(id); len(got) != 1 || got[0].Name != "inner" {
		t.Errorf("before the outer one ended: %+v", got)
	}
	End(parent, nil)
	got := tel.Spans(id)
	if len(got) != 2 {
		t.Fatalf("%d spans, want 2", len(got))
	}
	in, out := got[0], got[1]
	if in.ParentID != out.SpanID || out.ParentID != "" || in.TraceID != id {
		t.Errorf("parents: %+v", got)
	}
	if out.Kind != "server" || in.Kind != "internal" || out.Instance != "north/a/kv/1" || out.Region != "north" || out.Error != "" {
		t.Errorf("outer %+v", out)
	}
	if in.Error != "no" || in.Attributes["n"] != "7" || in.Attributes["b"] != "true" || in.Attributes["error.kind"] != "denied" {
		t.Errorf("inner %+v", in)
	}
	if in.EndUnixNano < in.StartUnixNano || in.StartUnixNano < out.StartUnixNano {
		t.Errorf("times of %+v in %+v", in, out)
	}
	if got := tel.Spans(strings.Repeat("0", 32)); len(got) != 0 {
		t.Errorf("of another trace: %+v", got)
	}
	if TraceID(t.Context()) != "" {
		t.Error("a context without a trace has an id")
	}
}

// TestRingIsBounded ends more spans than there is room for: the newest stay, and
// what they take is bounded whatever their size is.
func TestRingIsBounded(t *testing.T) {
	for name, size := range map[string]int{"small": 0, "large": 3 * blockBytes, "of any size": -1} {
		t.Run(name, func(t *testing.T) {
			tel := New(Config{Instance: "x"})
			_, first := tel.Tracer.Start(t.Context(), "first")
			old := first.SpanContext().TraceID().String()
			first.End()
			ctx, root := tel.Tracer.Start(t.Context(), "root")
			n := 0
			for written := 0; written < 2*ringBytes; n++ {
				length := size
				if size < 0 {
					length = n * n % (2 * blockBytes)
				}
				_, s := tel.Tracer.Start(ctx, fmt.Sprint(n), trace.WithAttributes(attribute.String("text", strings.Repeat("x", length))))
				s.End()
				written += recordFixed + length
			}
			root.End()
			held := 0
			for _, b := range tel.spans.blocks {
				held += cap(b)
			}
			if held != tel.spans.size || held > ringBytes || held < ringBytes/2 {
				t.Errorf("the spans take %d bytes and the ring counts %d, of %d", held, tel.spans.size, ringBytes)
			}
			if got := tel.Spans(old); len(got) != 0 {
				t.Errorf("the oldest is still there: %+v", got)
			}
			got := tel.Spans(TraceID(ctx))
			for k := range len(got) - 1 { // the newest, in order and without a gap
				if want := fmt.Sprint(n - (len(got) - 1) + k); got[k].Name != want {
					t.Fatalf("of %d spans, number %d is %s, want %s", len(got), k, got[k].Name, want)
				}
			}
			if len(got) < 2 || got[len(got)-1].Name != "root" {
				t.Errorf("%d spans of the trace", len(got))
			}
		})
	}
}

// TestAnIdleInstanceHoldsLittle ends one span: it takes one block.
func TestAnIdleInstanceHoldsLittle(t *testing.T) {
	tel := New(Config{Instance: "x"})
	_, s := tel.Tracer.Start(t.Context(), "one")
	s.End()
	if tel.spans.size != blockBytes {
		t.Errorf("%d bytes are held for one span, want %d", tel.spans.size, blockBytes)
	}
}

// TestASpanLargerThanTheRing ends one between two others: they are kept.
func TestASpanLargerThanTheRing(t *testing.T) {
	tel := New(Config{Instance: "x"})
	ctx, root := tel.Tracer.Start(t.Context(), "root")
	for _, length := range []int{1, ringBytes, 1} {
		_, s := tel.Tracer.Start(ctx, fmt.Sprint(length), trace.WithAttributes(attribute.String("text", strings.Repeat("x", length))))
		s.End()
	}
	root.End()
	if got := tel.Spans(TraceID(ctx)); len(got) != 3 {
		t.Errorf("%d spans are kept, want 3", len(got))
	}
	if got := cap(tel.spans.scratch); got > blockBytes {
		t.Errorf("%d bytes are held for the next span", got)
	}
}

// TestInstancesShareNothing gives two instances of one process the same names.
func TestInstancesShareNothing(t *testing.T) {
	a, b := New(Config{Instance: "a"}), New(Config{Instance: "b"})
	for _, tel := range []*Telemetry{a, b} {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "same_total", Help: "x"})
		tel.Metrics.MustRegister(c)
		if tel == a {
			c.Inc()
		}
	}
	for tel, want := range map[*Telemetry]float64{a: 1, b: 0} {
		fs, err := tel.Metrics.Gather()
		if err != nil || len(fs) != 1 || fs[0].GetMetric()[0].GetCounter().GetValue() != want {
			t.Errorf("%s: %v (error %v), want %g", tel.Instance, fs, err, want)
		}
	}
	ctx, s := a.Tracer.Start(t.Context(), "x")
	s.End()
	if len(b.Spans(TraceID(ctx))) != 0 {
		t.Error("a span of one instance is in the other's ring")
	}
}

func TestLogNamesTheInstance(t *testing.T) {
	var b bytes.Buffer
	New(Config{Instance: "north/a/kv/1", Log: slog.NewJSONHandler(&b, nil)}).Log.Info("hello", "k", 1)
	var m map[string]any
	if err := json.Unmarshal(b.Bytes(), &m); err != nil || m["instance"] != "north/a/kv/1" || m["msg"] != "hello" || m["k"] != 1.0 {
		t.Errorf("record %v (error %v)", m, err)
	}
	Discard().Log.Error("nobody reads this")
}

// TestExporterGetsEverySpan exports beside the ring; Close flushes.
func TestExporterGetsEverySpan(t *testing.T) {
	exp := tracetest.NewInMemoryExporter()
	tel := New(Config{Instance: "x", Role: "kv", Region: "north", Exporter: exp})
	_, s := tel.Tracer.Start(t.Context(), "one")
	s.End()
	if err := tel.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := exp.GetSpans()
	if len(got) != 1 || got[0].Name != "one" {
		t.Fatalf("exported %v", got)
	}
	if v, ok := got[0].Resource.Set().Value("service.instance.id"); !ok || v.AsString() != "x" {
		t.Errorf("resource %v", got[0].Resource)
	}
	// The exporter is shared: Close ends the instance's own goroutine (the package's
	// tests look for it), and not what another sends.
	other := New(Config{Instance: "y", Role: "kv", Region: "north", Exporter: exp})
	_, s = other.Tracer.Start(t.Context(), "two")
	s.End()
	if err := other.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := exp.GetSpans(); len(got) != 2 {
		t.Errorf("exported %v", got)
	}
}

const adminKey = "the key"

func admin(t *testing.T, h http.Handler, method, path, auth, body string) (int, string) {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if auth != "" {
		r.Header.Set("Authorization", auth)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestAdminGuard(t *testing.T) {
	tel := New(Config{Instance: "x", Properties: map[string]string{"a": "1"}})
	for _, c := range []struct {
		key, auth string
		ok        bool
	}{
		{adminKey, "Bearer " + adminKey, true},
		{adminKey, "", false},
		{adminKey, adminKey, false},
		{adminKey, "Bearer", false},
		{adminKey, "Bearer ", false},
		{adminKey, "Bearer " + adminKey + " ", false},
		{adminKey, "bearer " + adminKey, false},
		{adminKey, "Basic " + adminKey, false},
		{"", "Bearer ", false}, // without a key nobody is let in
		{"", "", false},
	} {
		mux := tel.AdminMux(c.key)
		want := http.StatusUnauthorized
		if c.ok {
			want = http.StatusOK
		}
		for _, path := range []string{"/properties", "/traces/abc"} {
			if code, _ := admin(t, mux, http.MethodGet, path, c.auth, ""); code != want {
				t.Errorf("key %q, %q, %s: %d, want %d", c.key, c.auth, path, code, want)
			}
		}
		for _, path := range []string{"/metrics", "/healthz"} {
			if code, _ := admin(t, mux, http.MethodGet, path, c.auth, ""); code != http.StatusOK {
				t.Errorf("%s asks for a key: %d", path, code)
			}
		}
		if code, _ := admin(t, mux, http.MethodPost, "/properties", c.auth, `{"a":"2"}`); (code == http.StatusNoContent) != c.ok {
			t.Errorf("key %q, %q: set answers %d", c.key, c.auth, code)
		}
		tel.Properties.Set(map[string]string{"a": "1"})
	}
}

func TestAdminAnswers(t *testing.T) {
	tel := New(Config{Instance: "x", Properties: map[string]string{"a": "1", "b": "2"}})
	mux, auth := tel.AdminMux(adminKey), "Bearer "+adminKey
	ctx, s := tel.Tracer.Start(t.Context(), "one")
	s.End()
	_, body := admin(t, mux, http.MethodGet, "/traces/"+TraceID(ctx), auth, "")
	var spans []Span
	if err := json.Unmarshal([]byte(body), &spans); err != nil || len(spans) != 1 || spans[0].Name != "one" {
		t.Errorf("spans %s (error %v)", body, err)
	}
	if code, _ := admin(t, mux, http.MethodPost, "/properties", auth, `{"b":"","c":"3"}`); code != http.StatusNoContent {
		t.Errorf("set answers %d", code)
	}
	if _, body := admin(t, mux, http.MethodGet, "/properties", auth, ""); strings.TrimSpace(body) != `{"a":"1","c":"3"}` {
		t.Errorf("properties %s", body)
	}
	for _, bad := range []string{"", "[]", `{"a":1}`, `{"a":`, `"` + strings.Repeat("x", maxAdminBody+1) + `"`} {
		if code, _ := admin(t, mux, http.MethodPost, "/properties", auth, bad); code != http.StatusBadRequest {
			t.Errorf("%.20q answers %d", bad, code)
		}
	}
	if got := tel.Properties.Get("a"); got != "1" {
		t.Errorf("a bad request set a to %q", got)
	}
	tel.Metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "my_gauge", Help: "x"}, func() float64 { return 4 }))
	if _, body := admin(t, mux, http.MethodGet, "/metrics", "", ""); !strings.Contains(body, "my_gauge 4") {
		t.Errorf("metrics %s", body)
	}
}

// TestHTTPTraceContext sends a request from one instance to another over a real
// socket: one trace, the server's span below the client's.
func TestHTTPTraceContext(t *testing.T) {
	server, client := New(Config{Instance: "s", Region: "north"}), New(Config{Instance: "c"})
	var inside string
	srv := httptest.NewServer(server.Handler("edge", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inside = TraceID(r.Context())
		w.WriteHeader(http.StatusServiceUnavailable)
		w.WriteHeader(http.StatusOK) // too late: the first counts
	})))
	defer srv.Close()
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	ctx, root := client.Tracer.Start(t.Context(), "root")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, srv.URL+"/a/b?q=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Transport(tr).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	root.End()
	id := TraceID(ctx)
	if inside != id {
		t.Errorf("the handler's trace is %q, want %q", inside, id)
	}
	if req.Header.Get("traceparent") != "" {
		t.Error("the caller's own request was changed")
	}
	mine := client.Spans(id)
	theirs := streamSpans(t, server, id) // its end may come after its answer
	if len(mine) != 2 || len(theirs) != 1 {
		t.Fatalf("%d spans at the client, %d at the server", len(mine), len(theirs))
	}
	call := mine[slices.IndexFunc(mine, func(s Span) bool { return s.Kind == "client" })]
	got := theirs[0]
	if got.ParentID != call.SpanID || got.Kind != "server" || got.Name != "edge POST" || got.Attributes["url.path"] != "/a/b" || got.Attributes["http.response.status_code"] != "503" || got.Error == "" {
		t.Errorf("server's span %+v below %+v", got, call)
	}
	if call.Attributes["http.response.status_code"] != "503" || call.Error != "" {
		t.Errorf("client's span %+v", call)
	}
}

func TestHandlerStatusOfSilentAnswer(t *testing.T) {
	tel := Discard()
	for name, c := range map[string]struct {
		f    http.HandlerFunc
		want string
	}{
		"nothing": {func(http.ResponseWriter, *http.Request) {}, "200"},
		"body":    {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") }, "200"},
		"early hints": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusNotFound)
		}, "404"},
	} {
		var id string
		h := tel.Handler("x", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			id = TraceID(r.Context())
			c.f(w, r)
		}))
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
		if s := tel.Spans(id); len(s) != 1 || s[0].Attributes["http.response.status_code"] != c.want {
			t.Errorf("%s: %+v, want status %s", name, s, c.want)
		}
	}
}

func TestTransportError(t *testing.T) {
	tel := Discard()
	broken := errors.New("refused")
	ctx, root := tel.Tracer.Start(t.Context(), "root")
	req := httptest.NewRequest(http.MethodGet, "http://nowhere/", nil).WithContext(ctx)
	if _, err := tel.Transport(roundTripper(func(*http.Request) (*http.Response, error) { return nil, broken })).RoundTrip(req); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	root.End()
	if s := tel.Spans(TraceID(ctx)); len(s) != 2 || s[0].Error != "refused" {
		t.Errorf("spans %+v", s)
	}
}

// TestBaggageNeedsNoSpan has what travels with a request reach a server without a
// trace too; a request that has nothing to tell is sent as it is.
func TestBaggageNeedsNoSpan(t *testing.T) {
	tel := &Telemetry{Tracer: noop.NewTracerProvider().Tracer("")}
	member, err := baggage.NewMember("scope", "tv")
	if err != nil {
		t.Fatal(err)
	}
	carried, err := baggage.New(member)
	if err != nil {
		t.Fatal(err)
	}
	for want, ctx := range map[string]context.Context{"scope=tv": baggage.ContextWithBaggage(t.Context(), carried), "": t.Context()} {
		req := httptest.NewRequest(http.MethodGet, "http://nowhere/", nil).WithContext(ctx)
		_, err := tel.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
			if got := r.Header.Get("baggage"); got != want {
				t.Errorf("baggage %q, want %q", got, want)
			}
			if want == "" && r != req {
				t.Error("a request that tells nothing was copied")
			}
			return &http.Response{StatusCode: http.StatusOK}, nil
		})).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
	}
}
