package gateway

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// table compiles routes for a gateway of us-east.
func table(t testing.TB, rs ...Route) *routes {
	t.Helper()
	rs, err := CheckRoutes(rs, nil)
	if err != nil {
		t.Fatal(err)
	}
	return compiledTable(t, rs)
}

func compiledTable(t testing.TB, rs []Route) *routes {
	t.Helper()
	m := newMetrics(prometheus.NewRegistry(), "us-east", func() int { return 0 }, &chain{})
	out, err := newRoutes(Table{Routes: rs}, "us-east", "a", func(string) *vipLoad { return new(vipLoad) }, m.route)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// get is a request for a path that nothing else is known of.
func get(path string) *Exchange {
	return &Exchange{Received: time.Now(), Request: Request{Method: "GET", Path: path, Header: NewHeader()}}
}

func TestLongestPrefixWins(t *testing.T) {
	rs := table(t, Route{Prefix: "/play", VIP: "play"}, Route{Prefix: "/play/v2/", VIP: "play2", Name: "two"}, Route{Prefix: "/", VIP: "web"},
		Route{Path: "/play/exact", VIP: "x"})
	for path, want := range map[string]string{
		"/play": "play", "/play/": "play", "/play/start": "play", "/playback": "web", "/play/v2": "two", "/play/v2/x": "two", "/play/v22": "play", "/": "web",
		"/play/exact": "play/exact", "/play/exact/": "play/exact", "/play/exact/more": "play",
	} {
		if r := rs.match(get(path), false); r == nil || r.Name != want {
			t.Errorf("%s goes to %+v, want %s", path, r, want)
		}
	}
	if r := table(t, DefaultRoutes()...).match(get("/other"), false); r != nil {
		t.Errorf("/other goes to %+v", r)
	}
}

func TestBadRoutesAreRefused(t *testing.T) {
	for _, text := range []string{
		"", "null", "[]", "{}", `[{"prefix":"play","vip":"play"}]`, `[{"prefix":"/a/../b","vip":"play"}]`, `[{"prefix":"/a"}]`,
		`[{"prefix":"/a","vip":"http://evil"}]`, `[{"prefix":"/a","vip":"x"},{"prefix":"/a/","vip":"y"}]`,
		`[{"prefix":"/a","vip":"x","typo":1}]`, `[{"prefix":"/a","vip":"x"}] []`, `[{"prefix":"/a","vip":"x","timeout":"-1s"}]`,
	} {
		if rs, err := ParseTable(text, nil); err == nil {
			t.Errorf("%s is taken as %+v", text, rs)
		}
	}
}

func TestRoutesProperty(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	e.api("web", "us-east/a/web/1", echo("web"))
	c := e.client(eastClient, true)
	if a := ask(t, c, "GET", "/home", ""); a.StatusCode != 404 {
		t.Fatalf("status %d", a.StatusCode)
	}
	e.set(PropertyRoutes, `[{"prefix":"/","vip":"web"}]`)
	if a := ask(t, c, "GET", "/home", ""); a.StatusCode != 200 {
		t.Errorf("with the new table: %d", a.StatusCode)
	}
	e.set(PropertyRoutes, `[{"prefix":"/`)
	if a := ask(t, c, "GET", "/home", ""); a.StatusCode != 200 {
		t.Errorf("a broken table took the route away: %d", a.StatusCode)
	}
	e.set(PropertyRoutes, "")
	if a := ask(t, c, "GET", "/home", ""); a.StatusCode != 404 {
		t.Errorf("without the property: %d", a.StatusCode)
	}
}

func FuzzParseTable(f *testing.F) {
	b, err := json.Marshal(DefaultRoutes())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(b))
	f.Add(`[{"prefix":"/","vip":"web","timeout":"2s","member":true}]`)
	f.Add(`[{"prefix":"/a//b","vip":"x"}]`)
	f.Add(`{"version":3,"routes":[{"name":"c","prefix":"/","vip":"w","when":"percent(5)","percent":5},{"name":"o","overlay":true,"members":["m"],"instance":"r/a/w/1"}]}`)
	f.Add(`[{"path":"/x","origins":["http://127.0.0.1:80"],"limits":{"client":"1/s"},"until":"2030-01-01T00:00:00Z"}]`)
	f.Fuzz(func(t *testing.T, text string) {
		tab, err := ParseTable(text, nil)
		if err != nil {
			return
		}
		rs := compiledTable(t, tab.Routes)
		for _, r := range tab.Routes {
			if r.target() == "" || strings.ContainsAny(r.VIP, "/:@") {
				t.Errorf("%q: target %q", text, r.VIP)
			}
			got := rs.match(get(r.Prefix+r.Path+"/x"), false) // must not panic
			if r.Path == "" && !r.Overlay && r.conditions() == 0 && len(r.In) == 0 && r.Until == nil && r.Priority == 0 && got == nil {
				t.Errorf("%q: nothing matches below %q", text, r.Prefix)
			}
		}
		again, err := json.Marshal(tab)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseTable(string(again), nil); err != nil {
			t.Errorf("%q is taken, but not as it was understood: %s: %v", text, again, err)
		}
	})
}

func FuzzParseEvacuation(f *testing.F) {
	f.Add(`{"share":0.5,"savers":["us-west"]}`)
	f.Add(`{"share":1e-300}`)
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseEvacuation(text)
		if err == nil && (!(e.Share >= 0 && e.Share <= 1) || (e.Share > 0 && len(e.Savers) == 0)) {
			t.Errorf("%q is taken as %+v", text, e)
		}
	})
}

func FuzzCleanPath(f *testing.F) {
	for _, p := range []string{"/", "/a/b/", "/a/../b", "/a//b", "//", "/.", "*", "/a\\b"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if !cleanPath(p) {
			return
		}
		for seg := range strings.SplitSeq(strings.Trim(p, "/"), "/") {
			if seg == "." || seg == ".." || (seg == "" && p != "/") {
				t.Errorf("%q is called clean", p)
			}
		}
	})
}
