package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/flix-lab/flix/services"
)

func TestCORS(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	e.api("play", "us-east/a/play/1", echo("play"))
	c := e.client(eastClient, false)
	preflight := func(origin string) answer {
		return ask(t, c, "OPTIONS", "/play/x", "", "Origin", origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization")
	}
	for origin, want := range map[string]bool{
		"http://localhost:3000": true, "http://app.localhost": true, "https://www.flix.test": true, "http://127.0.0.1:8080": true,
		"http://evil.example": false, "http://localhost.evil.example": false, "https://flix.test.evil.example": false, "null": false, "http://evil.example/localhost": false, "http://evil@localhost": false,
	} {
		a := preflight(origin)
		h := a.Header
		if want && (a.StatusCode != 204 || h.Get("Access-Control-Allow-Origin") != origin || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "POST") ||
			!strings.Contains(h.Get("Access-Control-Allow-Headers"), "Authorization") || h.Get("Access-Control-Max-Age") != "600" || h.Get("Vary") != "Origin") {
			t.Errorf("%s: %d %v", origin, a.StatusCode, h)
		}
		if !want && (a.StatusCode != 403 || a.problem(t).Reason != ReasonPreflight || h.Get("Access-Control-Allow-Origin") != "") {
			t.Errorf("%s: %d %v", origin, a.StatusCode, h)
		}
	}
	// The request itself, and its refusal, are for the page to read.
	for _, header := range [][]string{{"Authorization", w.member("m-1")}, nil} {
		a := ask(t, c, "GET", "/play/x", "", append(header, "Origin", "http://localhost:3000")...)
		if a.Header.Get("Access-Control-Allow-Origin") != "http://localhost:3000" || !strings.Contains(a.Header.Get("Access-Control-Expose-Headers"), "X-Request-Id") || (a.StatusCode == 200) != (header != nil) {
			t.Errorf("%d %v", a.StatusCode, a.Header)
		}
	}
	if a := ask(t, c, "GET", "/play/x", "", "Origin", "http://evil.example", "Authorization", w.member("m-1")); a.StatusCode != 200 || a.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("another page's request: %d %v", a.StatusCode, a.Header)
	}
	// OPTIONS without a question is the API's.
	if a := ask(t, c, "OPTIONS", "/play/x", "", "Origin", "http://localhost", "Authorization", w.member("m-1")); a.StatusCode != 200 || a.seen(t).Method != "OPTIONS" {
		t.Errorf("plain OPTIONS: %d %s", a.StatusCode, a.body)
	}
	e.set(FilterProperty("cors", "origins"), "https://www.example.org:8443")
	if a := preflight("https://www.example.org:8443"); a.StatusCode != 204 {
		t.Errorf("a page that was added: %d", a.StatusCode)
	}
	if a := preflight("https://www.example.org"); a.StatusCode != 403 {
		t.Errorf("another port of it: %d", a.StatusCode)
	}
	e.set(FilterProperty("cors", "origins"), "none")
	if a := preflight("http://localhost"); a.StatusCode != 403 {
		t.Errorf("none: %d", a.StatusCode)
	}
	e.set(FilterProperty("cors", "origins"), "*")
	if a := preflight("https://anybody.example"); a.StatusCode != 204 {
		t.Errorf("all: %d", a.StatusCode)
	}
}

// Stock players stand in pages of any site: what they may read they may ask for,
// with the fields that they send (CMCD, by CTA-5004), and a refusal is for them to
// read, too.
func TestCORSOfStockPlayers(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	e.api("play", "us-east/a/play/1", echo("play"))
	c := e.client(eastClient, false)
	const manifest = "/play/stock/a.b/manifest.mpd"
	preflight := func(path string) answer {
		return ask(t, c, "OPTIONS", path, "", "Origin", "https://player.example", "Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "cmcd-session,range")
	}
	read := func(path string) answer { return ask(t, c, "GET", path, "", "Origin", "https://player.example") }
	for _, origins := range []string{"", "none"} {
		e.set(FilterProperty("cors", "origins"), origins)
		a := preflight(manifest)
		if h := a.Header; a.StatusCode != 204 || h.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "GET") ||
			!strings.Contains(h.Get("Access-Control-Allow-Headers"), "CMCD-Session") || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "Range") || h.Get("Vary") != "" {
			t.Errorf("origins %q: %d %v", origins, a.StatusCode, h)
		}
		if a := read(manifest); a.StatusCode != 200 || a.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("origins %q: the manifest: %d %v", origins, a.StatusCode, a.Header)
		}
		if a := preflight("/play/start"); a.StatusCode != 403 || a.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("origins %q: another path: %d %v", origins, a.StatusCode, a.Header)
		}
	}
	e.set(PropertyRoutes, `[{"prefix":"/play/stock","vip":"nobody","any_page":true}]`)
	if a := read(manifest); a.StatusCode != 502 || a.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("a refusal: %d %v", a.StatusCode, a.Header)
	}
}

// A cache may give a page what it got without one: that says that it depends on the
// page, unless no cache may keep it or all pages are the same.
func TestAnswersToNoPageInCaches(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	e.api("signup", "us-east/a/signup/1", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", r.URL.RawQuery)
		w.Header().Set("Vary", "Accept")
	})
	e.api("play", "us-east/a/play/1", echo("play"))
	c := e.client(eastClient, false)
	for _, tt := range []struct {
		origins, method, path, origin string
		vary, allows                  string
	}{
		{"", "GET", "/signup/x?max-age=60", "", "Accept, Origin", ""},
		{"", "HEAD", "/signup/x", "", "Accept, Origin", ""},
		{"", "GET", "/signup/x", "https://evil.example", "Accept, Origin", ""},
		{"", "GET", "/signup/x?private,no-store", "", "Accept", ""},
		{"", "POST", "/signup/x", "", "Accept", ""},
		{"*", "GET", "/signup/x", "", "Accept, Origin", ""},
		{"none", "GET", "/signup/x", "", "Accept", ""},
		{CORSPass, "GET", "/signup/x", "http://localhost", "Accept", ""},
		{"", "GET", "/play/stock/a.b/manifest.mpd", "", "", "*"},
	} {
		e.set(FilterProperty("cors", "origins"), tt.origins)
		var header []string
		if tt.origin != "" {
			header = []string{"Origin", tt.origin}
		}
		a := ask(t, c, tt.method, tt.path, "", header...)
		if a.StatusCode != 200 || strings.Join(a.Header.Values("Vary"), ", ") != tt.vary || a.Header.Get("Access-Control-Allow-Origin") != tt.allows {
			t.Errorf("%+v: %d %v", tt, a.StatusCode, a.Header)
		}
	}
}

// Where pages are the APIs' own matter the gateway neither answers for them nor
// changes what they say.
func TestCORSLeftToTheAPI(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	e.set(FilterProperty("cors", "origins"), CORSPass)
	e.api("signup", "us-east/a/signup/1", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "https://its.example")
		w.Header().Set("Access-Control-Expose-Headers", "X-Its")
		w.Header().Set("Allow", r.Method)
		w.WriteHeader(http.StatusAccepted)
	})
	c := e.client(eastClient, true)
	for _, origin := range []string{"https://its.example", "http://localhost"} {
		for _, method := range []string{"OPTIONS", "GET"} {
			a := ask(t, c, method, "/signup/x", "", "Origin", origin, "Access-Control-Request-Method", "PUT")
			h := a.Header
			if a.StatusCode != http.StatusAccepted || h.Get("Allow") != method || h.Get("Access-Control-Allow-Origin") != "https://its.example" || h.Get("Access-Control-Expose-Headers") != "X-Its" || h.Get("Access-Control-Allow-Methods") != "" {
				t.Errorf("%s of %s: %d %v", method, origin, a.StatusCode, h)
			}
		}
	}
}

func TestParseCORSOrigins(t *testing.T) {
	for _, bad := range []string{"localhost", "ftp://x", "http://", "http://a/b", "http://a?b", "http://u@a", "http://a.*.b", "http://*", "http://*."} {
		if got, err := parseCORSOrigins(bad); services.KindOf(err) != services.Invalid {
			t.Errorf("%q is taken as %+v", bad, got)
		}
	}
}

func FuzzCORSOrigin(f *testing.F) {
	f.Add("http://localhost:1")
	f.Add("https://a.flix.test")
	f.Add("null")
	f.Add("http://[::1]:80")
	f.Fuzz(func(t *testing.T, origin string) {
		list, err := parseCORSOrigins("https://*.flix.test")
		if err != nil {
			t.Fatal(err)
		}
		var c cors
		c.origins.Store(&list)
		if c.allowed(origin) && (!strings.HasPrefix(origin, "https://") || !strings.Contains(origin, ".flix.test")) {
			t.Errorf("%q is allowed", origin)
		}
	})
}
