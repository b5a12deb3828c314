package opensearch_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/addresstest"
	"github.com/flix-lab/flix/services/search"
	"github.com/flix-lab/flix/services/search/opensearch"
	"github.com/flix-lab/flix/services/telemetry"
)

// serve answers in OpenSearch's place until the end of the test.
func serve(t *testing.T, handle http.HandlerFunc) *opensearch.Client {
	t.Helper()
	srv := httptest.NewServer(handle)
	t.Cleanup(srv.Close)
	return newClient(t, opensearch.Config{Endpoint: fixed(srv.URL)})
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

func TestNewNeedsNoServer(t *testing.T) {
	if _, err := opensearch.New(opensearch.Config{Tel: telemetry.Discard()}); services.KindOf(err) != services.Invalid {
		t.Errorf("New without Endpoint: %v", err)
	}
	asked := false
	newClient(t, opensearch.Config{Endpoint: func(context.Context) (string, error) { asked = true; return "", nil }})
	if asked {
		t.Error("New asks for the endpoint")
	}
}

// TestUnavailable checks every way in which a cluster can be out of reach. One
// that hangs does so for as long as it is waited for: a call that did not end
// with its context would not end.
func TestUnavailable(t *testing.T) {
	hung := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the server sees the client go when nothing is unread
		<-r.Context().Done()
	}
	cases := map[string]*opensearch.Client{
		"nobody listens":       newClient(t, opensearch.Config{Endpoint: fixed("http://" + addresstest.Refusing(t))}),
		"no endpoint yet":      newClient(t, opensearch.Config{Endpoint: func(context.Context) (string, error) { return "", services.Errorf(services.Unavailable, "not placed") }}),
		"it hangs":             serve(t, hung),
		"it has not recovered": serve(t, answer(503, `{"error":{"type":"cluster_block_exception","reason":"state not recovered"},"status":503}`)),
		"a proxy in front":     serve(t, answer(502, `<html>Bad Gateway</html>`)),
		"it ends half-way": serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "{")
		}),
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			_, searchErr := c.Search(ctx, "harbor", 1)
			for op, err := range map[string]error{"Search": searchErr, "Put": c.Put(ctx, search.Doc{ID: "tt-1", Name: "x"}), "Delete": c.Delete(ctx, "tt-1")} {
				if services.KindOf(err) != services.Unavailable {
					t.Errorf("%s: %v, of kind %s", op, err, services.KindOf(err))
				}
			}
		})
	}
}

// TestRefusals checks the kinds of what a cluster answers that is up.
func TestRefusals(t *testing.T) {
	cases := map[string]struct {
		handle http.HandlerFunc
		kind   services.Kind
		says   string
	}{
		"a wrong query":     {answer(400, `{"error":{"type":"parsing_exception","reason":"no"}}`), services.Invalid, "parsing_exception"},
		"it is overloaded":  {answer(429, `{"error":{"type":"circuit_breaking_exception","reason":"too much"}}`), services.Exhausted, "too much"},
		"not OpenSearch":    {answer(200, `<html>`), services.Internal, "not OpenSearch's"},
		"it redirects":      {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) }, services.Internal, "302"},
		"an endless answer": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 9<<20)) }, services.Internal, "more than"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := serve(t, c.handle).Search(t.Context(), "harbor", 1)
			if services.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, of kind %s; want %s", err, services.KindOf(err), c.kind)
			}
		})
	}
}

// TestBulkFailure checks that one refused document among many fails the Put.
func TestBulkFailure(t *testing.T) {
	c := serve(t, answer(200, `{"errors":true,"items":[{"index":{"_id":"tt-1","status":201}},{"index":{"_id":"tt-2","status":400,"error":{"type":"mapper_parsing_exception","reason":"no"}}}]}`))
	err := c.Put(t.Context(), search.Doc{ID: "tt-1"}, search.Doc{ID: "tt-2"})
	if services.KindOf(err) != services.Invalid || !strings.Contains(err.Error(), "tt-2") {
		t.Errorf("Put: %v", err)
	}
}

// TestNothingIsSent checks what is answered without the server.
func TestNothingIsSent(t *testing.T) {
	var calls atomic.Int64
	c := serve(t, func(http.ResponseWriter, *http.Request) { calls.Add(1) })
	for _, q := range []string{"", " ", "!?", "\x00"} {
		if hits, err := c.Search(t.Context(), q, 1); err != nil || len(hits) != 0 {
			t.Errorf("Search %q = %v, %v", q, hits, err)
		}
	}
	if _, err := c.Search(t.Context(), strings.Repeat("x", 513), 1); services.KindOf(err) != services.Invalid {
		t.Errorf("a long query: %v", err)
	}
	for _, id := range []services.TitleID{"", services.TitleID(strings.Repeat("i", 513))} {
		if err := c.Put(t.Context(), search.Doc{ID: "tt-1"}, search.Doc{ID: id}); services.KindOf(err) != services.Invalid {
			t.Errorf("Put of an id of %d bytes: %v", len(id), err)
		}
		if err := c.Delete(t.Context(), id); err != nil {
			t.Errorf("Delete of an id of %d bytes: %v", len(id), err)
		}
	}
	if err := errors.Join(c.Put(t.Context()), c.Delete(t.Context())); err != nil {
		t.Errorf("nothing to do: %v", err)
	}
	if calls.Load() != 0 {
		t.Errorf("%d requests were sent", calls.Load())
	}
}

// TestQueryIsNoSyntax checks that what a viewer types is sent as a value, and
// never as a path, a parameter or a query of OpenSearch's own.
func TestQueryIsNoSyntax(t *testing.T) {
	const text = `name:harbor" OR *:* {"match_all":{}} ../_all?q=`
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Query struct {
				Bool struct {
					Should []map[string]json.RawMessage `json:"should"`
				} `json:"bool"`
			} `json:"query"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.URL.Path != "/titles/_search" {
			t.Errorf("%s: %v", r.URL, err)
		}
		for _, part := range body.Query.Bool.Should {
			for kind := range part {
				if kind != "match" && kind != "constant_score" {
					t.Errorf("a query of kind %s", kind)
				}
			}
		}
		_, _ = io.WriteString(w, `{"hits":{"hits":[{"_id":"tt-1","_score":2.5,"_source":{"name":"Harbor"}}]}}`)
	})
	hits, err := c.Search(t.Context(), text, 5)
	if err != nil || len(hits) != 1 || hits[0] != (search.Hit{ID: "tt-1", Name: "Harbor", Score: 2.5}) {
		t.Errorf("Search = %v, %v", hits, err)
	}
}
