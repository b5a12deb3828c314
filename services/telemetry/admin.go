package telemetry

import (
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxAdminBody bounds a request to the admin endpoint, in bytes.
const maxAdminBody = 1 << 20

// AdminMux answers the instance's admin endpoint:
//
//	GET  /metrics            Prometheus text
//	GET  /healthz            200 once the instance serves
//	GET  /traces/{id}        its spans of one trace, JSON array of Span
//	GET  /properties         run-time properties, JSON object
//	POST /properties         sets some of them (JSON object of strings)
//
// and what was added with Admin. Everything but /metrics and /healthz, and what
// was added as open, asks for the bearer key, which only the lab's daemon holds.
// A role adds its own admin paths to the returned mux with Guard.
func (t *Telemetry) AdminMux(key string) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(t.Metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.Handle("GET /traces/{id}", Guard(key, func(w http.ResponseWriter, r *http.Request) {
		WriteJSON(w, http.StatusOK, t.Spans(r.PathValue("id")))
	}))
	mux.Handle("GET /properties", Guard(key, func(w http.ResponseWriter, _ *http.Request) {
		WriteJSON(w, http.StatusOK, t.Properties.All())
	}))
	mux.Handle("POST /properties", Guard(key, func(w http.ResponseWriter, r *http.Request) {
		var values map[string]string
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAdminBody)).Decode(&values); err != nil {
			http.Error(w, "properties: want a JSON object of strings: "+err.Error(), http.StatusBadRequest)
			return
		}
		t.Properties.Set(values)
		t.Log.Info("properties set", "values", values)
		w.WriteHeader(http.StatusNoContent)
	}))
	t.added.mu.Lock()
	defer t.added.mu.Unlock()
	for _, p := range t.added.paths {
		if p.guarded {
			mux.Handle(p.pattern, Guard(key, p.handler))
		} else {
			mux.HandleFunc(p.pattern, p.handler)
		}
	}
	return mux
}

// adminPaths are what others than the role answer on the admin endpoint.
type adminPaths struct {
	mu    sync.Mutex
	paths []adminPath
}

type adminPath struct {
	pattern string
	guarded bool
	handler http.HandlerFunc
}

// Admin adds a path to the muxes made from now on. An open one must show
// nothing that /metrics would not, and change nothing.
func (t *Telemetry) Admin(pattern string, guarded bool, h http.HandlerFunc) {
	t.added.mu.Lock()
	defer t.added.mu.Unlock()
	t.added.paths = append(t.added.paths, adminPath{pattern, guarded, h})
}

// Guard lets only requests with "Authorization: Bearer key" through.
func Guard(key string, h http.HandlerFunc) http.Handler {
	want := []byte("Bearer " + key)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if key == "" || subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), want) != 1 {
			http.Error(w, "admin: the key is missing or wrong", http.StatusUnauthorized)
			return
		}
		h(w, r)
	})
}

// WriteJSON answers with a JSON body.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone: nothing to tell it
}
