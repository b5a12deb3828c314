package registry_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/flix-lab/flix/services/lookup/eureka"
	"github.com/flix-lab/flix/services/registry"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// handler is a registry's handler without a server around it.
func handler(f *testing.F) http.Handler {
	f.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = l.Close() })
	s, err := registry.New(registry.Deps{Listener: l, Tel: telemetry.Discard(), Timing: topology.LabTiming(), Region: "r"})
	if err != nil {
		f.Fatal(err)
	}
	return s.Handler()
}

// FuzzRequest sends any method, path and query to a registry: it answers with
// a status of its own and never breaks.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"GET /eureka/v2/apps", "GET /apps/delta?regions=a,,b", "PUT /eureka/apps/KV/i-1?status=UP&lastDirtyTimestamp=9999999999999999999",
		"PUT /apps/KV/i-1/status?value=UP&lastDirtyTimestamp=x", "DELETE /apps/KV/%2F/status", "PUT /apps/KV/i-1/metadata?a=b&a=c&%zz",
		"GET /vips/%00", "GET /a/b/c/apps/", "PUT /asg/x/status?value=disabled", "POST /peerreplication/batch/", "HEAD /status", "GET //instances//i-1",
		"PUT /renewals", "GET /serverinfo/statusoverrides",
	} {
		f.Add(s)
	}
	h := handler(f)
	seed := httptest.NewRecorder()
	register := httptest.NewRequest("POST", "/apps/KV", strings.NewReader(stock("KV", "i-1", "UP", 1)))
	register.Header.Set("Content-Type", eureka.JSON)
	h.ServeHTTP(seed, register)
	f.Fuzz(func(t *testing.T, line string) {
		method, target, ok := strings.Cut(line, " ")
		u, err := url.ParseRequestURI(target)
		if !ok || err != nil || method == "" || strings.ContainsAny(method, " \t\r\n") {
			return
		}
		r := &http.Request{Method: method, URL: u, Header: http.Header{"Accept": {eureka.JSON}}, Body: http.NoBody, Host: "h", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r.WithContext(t.Context()))
		if w.Code < 200 || w.Code >= 600 || w.Code == http.StatusInternalServerError {
			t.Fatalf("%q: %d %s", line, w.Code, w.Body)
		}
	})
}

// FuzzBatch sends any body as a replication request.
func FuzzBatch(f *testing.F) {
	f.Add(`{"replicationList":[]}`)
	f.Add(`{"replicationList":[{"appName":"KV","id":"i-1","lastDirtyTimestamp":1,"status":"UP","action":"Heartbeat"}]}`)
	f.Add(`{"replicationList":[{"appName":"KV","id":"i-1","action":"Register","instanceInfo":` + strings.TrimSuffix(strings.TrimPrefix(stock("KV", "i-1", "UP", 1), `{"instance":`), "}") + `}]}`)
	f.Add(`{"replicationList":[{"action":"Cancel"},{"action":"DeleteStatusOverride","lastDirtyTimestamp":"2"},null]}`)
	h := handler(f)
	f.Fuzz(func(t *testing.T, body string) {
		w := httptest.NewRecorder()
		batch := httptest.NewRequest("POST", "/eureka/v2/peerreplication/batch/", strings.NewReader(body))
		batch.Header.Set("Content-Type", eureka.JSON)
		h.ServeHTTP(w, batch)
		if w.Code != http.StatusOK && w.Code != http.StatusBadRequest {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		// Whatever was taken can be written, in both forms, and read.
		for _, form := range []string{eureka.JSON, eureka.XML} {
			r := httptest.NewRequest("GET", "/apps", nil)
			r.Header.Set("Accept", form)
			w = httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if form == eureka.JSON {
				if _, err := eureka.DecodeApplications(w.Body.Bytes()); err != nil {
					t.Fatalf("%v: %s", err, w.Body)
				}
			}
		}
	})
}
