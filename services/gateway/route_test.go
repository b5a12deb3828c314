package gateway

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestLongestPrefixWins(t *testing.T) {
	table, err := newRoutes([]Route{
		{Prefix: "/play", VIP: "play"}, {Prefix: "/play/v2/", VIP: "play2", Name: "two"}, {Prefix: "/", VIP: "web"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/play": "play", "/play/": "play", "/play/start": "play", "/playback": "web", "/play/v2": "two", "/play/v2/x": "two", "/play/v22": "play", "/": "web",
	} {
		if r := table.match(path); r == nil || r.Name != want {
			t.Errorf("%s goes to %+v, want %s", path, r, want)
		}
	}
	defaults, err := newRoutes(DefaultRoutes())
	if err != nil {
		t.Fatal(err)
	}
	if r := defaults.match("/other"); r != nil {
		t.Errorf("/other goes to %+v", r)
	}
}

func TestBadRoutesAreRefused(t *testing.T) {
	for _, text := range []string{
		"", "null", "[]", "{}", `[{"prefix":"play","vip":"play"}]`, `[{"prefix":"/a/../b","vip":"play"}]`, `[{"prefix":"/a"}]`,
		`[{"prefix":"/a","vip":"http://evil"}]`, `[{"prefix":"/a","vip":"x"},{"prefix":"/a/","vip":"y"}]`,
		`[{"prefix":"/a","vip":"x","typo":1}]`, `[{"prefix":"/a","vip":"x"}] []`, `[{"prefix":"/a","vip":"x","timeout":"-1s"}]`,
	} {
		if rs, err := ParseRoutes(text); err == nil {
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

func FuzzParseRoutes(f *testing.F) {
	b, err := json.Marshal(DefaultRoutes())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(b))
	f.Add(`[{"prefix":"/","vip":"web","timeout":"2s","member":true}]`)
	f.Add(`[{"prefix":"/a//b","vip":"x"}]`)
	f.Fuzz(func(t *testing.T, text string) {
		rs, err := ParseRoutes(text)
		if err != nil {
			return
		}
		for _, r := range rs {
			if got := routes(rs).match(r.Prefix + "/x"); got == nil || len(got.Prefix) < len(r.Prefix) {
				t.Errorf("%q: below %q matches %+v", text, r.Prefix, got)
			}
			if r.VIP == "" || strings.ContainsAny(r.VIP, "/:@") {
				t.Errorf("%q: VIP %q", text, r.VIP)
			}
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
