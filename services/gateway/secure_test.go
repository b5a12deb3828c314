package gateway

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// originOver starts a fixed origin that speaks a scheme, and returns its URL.
func originOver(t *testing.T, w *world, scheme string) string {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("X-Spoke", r.Proto)
		rw.Header().Set("X-Host", r.Host)
		rw.Header().Set("X-Asked", r.RequestURI)
		rw.WriteHeader(http.StatusOK)
	}))
	switch scheme {
	case schemeTLS:
		s.EnableHTTP2 = true
		s.TLS = &tls.Config{Certificates: []tls.Certificate{w.cert}}
		s.StartTLS()
	case schemeH2C:
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
	default:
		s.Start()
	}
	t.Cleanup(s.Close)
	return scheme + "://" + s.Listener.Addr().String()
}

func TestFixedOriginsOfEveryScheme(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east", func(d *Deps) { d.OriginCAs = w.roots })
	secure := originOver(t, w, schemeTLS)
	routes := []Route{
		{Prefix: "/plain", Origins: []string{originOver(t, w, schemePlain)}},
		{Prefix: "/h2c", Origins: []string{originOver(t, w, schemeH2C)}, Rewrite: "/v2/"},
		{Prefix: "/secure", Origins: []string{secure}, ServerName: edgeHost, Rewrite: "/"},
		{Prefix: "/other", Origins: []string{secure}, ServerName: "other.example.org"},
		{Prefix: "/address", Origins: []string{secure}},
	}
	b, err := json.Marshal(routes)
	if err != nil {
		t.Fatal(err)
	}
	e.set(PropertyRoutes, string(b))
	c := e.client(eastClient, true)
	port := secure[strings.LastIndex(secure, ":"):]
	for path, want := range map[string]string{
		"/plain/a%2Fb?q=1":    "HTTP/1.1 " + edgeHost + " /plain/a%2Fb?q=1",
		"/h2c/x/y?q=%20":      "HTTP/2.0 " + edgeHost + " /v2/x/y?q=%20",
		"/h2c":                "HTTP/2.0 " + edgeHost + " /v2/",
		"/secure/a%2Fb/c%20d": "HTTP/2.0 " + edgeHost + port + " /a%2Fb/c%20d",
		"/secure":             "HTTP/2.0 " + edgeHost + port + " /",
	} {
		a := ask(t, c, "GET", path, "")
		if got := a.Header.Get("X-Spoke") + " " + a.Header.Get("X-Host") + " " + a.Header.Get("X-Asked"); got != want {
			t.Errorf("%s: status %d, the origin saw %q, want %q", path, a.StatusCode, got, want)
		}
	}
	for _, path := range []string{"/other", "/address"} { // the certificate is for neither
		if a := ask(t, c, "GET", path, ""); a.StatusCode < 500 {
			t.Errorf("%s: status %d of an origin that proves nothing", path, a.StatusCode)
		}
	}
}

func TestRoutesToFixedOriginsAreChecked(t *testing.T) {
	for text, ok := range map[string]bool{
		`{"prefix":"/a","origins":["https://127.0.0.1:1"],"server_name":"example.org","rewrite":"/v1"}`: true,
		`{"prefix":"/a","origins":["h2c://127.0.0.1:1","h2c://127.0.0.1:2"]}`:                           true,
		`{"prefix":"/a","origins":["http://127.0.0.1:1","https://127.0.0.1:2"]}`:                        false,
		`{"prefix":"/a","origins":["ftp://127.0.0.1:1"]}`:                                               false,
		`{"prefix":"/a","origins":["http://127.0.0.1:1"],"server_name":"example.org"}`:                  false,
		`{"prefix":"/a","origins":["https://127.0.0.1:1"],"server_name":"Exa mple"}`:                    false,
		`{"prefix":"/a","origins":["http://127.0.0.1:1"],"rewrite":"/a/../b"}`:                          false,
		`{"prefix":"/a","origins":["http://127.0.0.1:1"],"rewrite":"v1"}`:                               false,
		`{"prefix":"/a","vip":"signup","rewrite":"/v1"}`:                                                false,
		`{"overlay":true,"origins":["http://127.0.0.1:1"],"rewrite":"/v1"}`:                             false,
	} {
		if _, err := ParseTable("["+text+"]", nil); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestRewritten(t *testing.T) {
	for _, x := range []struct{ matched, by, path, raw, query, want string }{
		{"/api", "/", "/api/x", "", "", "/x"},
		{"/api/", "/", "/api/x", "", "", "/x"},
		{"/api", "/", "/api", "", "a=1", "/?a=1"},
		{"/api", "/v1", "/api", "", "", "/v1"},
		{"/api", "/v1", "/api/", "", "", "/v1/"},
		{"/api", "/v1/", "/api/x/y", "", "", "/v1/x/y"},
		{"/", "/v1", "/x", "", "", "/v1/x"},
		{"/", "/", "/", "", "", "/"},
		{"/api", "/v1", "/api/a/b", "/api/a%2Fb", "", "/v1/a%2Fb"},
		{"/api", "/v1", "/api/a/b", "/%61pi/a%2Fb", "", "/v1/a%2Fb"}, // the match was encoded, too
		{"/api", "/v1", "/api/ü x", "", "", "/v1/%C3%BC%20x"},
	} {
		r := Request{Path: x.path, RawPath: x.raw, Query: x.query}
		if got := r.rewritten(x.matched, x.by); got != x.want {
			t.Errorf("%+v: %q", x, got)
		}
	}
}
