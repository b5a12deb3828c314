package oca

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestParseClientPath(t *testing.T) {
	for _, c := range []struct {
		path  string
		token string
		want  ref
		bad   bool
	}{
		{path: "/tok/t/tt-a/1/v1.mp4", token: "tok", want: ref{"tt-a", 1, "v1.mp4"}},
		{path: "/tok/t/tt-a/18446744073709551615/hls/v1.m3u8", token: "tok", want: ref{"tt-a", 1<<64 - 1, "hls/v1.m3u8"}},
		{path: "", bad: true},
		{path: "/", bad: true},
		{path: "/t/tt-a/1/v1.mp4", bad: true},
		{path: "tok/t/tt-a/1/v1.mp4", bad: true},
		{path: "/a/b/t/tt-a/1/v1.mp4", bad: true},
		{path: "/tok/t/tt-a/0/v1.mp4", bad: true},
		{path: "/tok/t/tt-a/01/v1.mp4", bad: true},
		{path: "/tok/t/tt-a/+1/v1.mp4", bad: true},
		{path: "/tok/t/tt-a/-1/v1.mp4", bad: true},
		{path: "/tok/t/tt-a/18446744073709551616/v1.mp4", bad: true},
		{path: "/tok/t/tt-a/1/", bad: true},
		{path: "/tok/t/tt-a/1", bad: true},
		{path: "/tok/t//1/v1.mp4", bad: true},
		{path: "/tok/t/../1/v1.mp4", bad: true},
		{path: "/tok/t/tt-a/1/../../../etc/passwd", bad: true},
		{path: "/tok/t/tt-a/1/..", bad: true},
		{path: "/tok/t/tt-a/1/./v1.mp4", bad: true},
		{path: "/tok/t/tt-a/1//v1.mp4", bad: true},
		{path: "/tok/t/tt-a/1/v1.mp4/", bad: true},
		{path: `/tok/t/tt-a/1/..\..\x`, bad: true},
		{path: "/tok/t/tt-a/1/v1.mp4\x00", bad: true},
		{path: "/tok/t/tt-a/1/" + strings.Repeat("a", 600), bad: true},
	} {
		token, got, err := parseClientPath(c.path)
		if (err != nil) != c.bad || !c.bad && (token != c.token || got != c.want) {
			t.Errorf("%q: %q %+v %v, want %q %+v bad=%v", c.path, token, got, err, c.token, c.want, c.bad)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	f.Add("/tok/t/tt-a/1/v1.mp4")
	f.Add("/fill/tt-a/1/hls/v1.m3u8")
	f.Add("/tok/t/tt-a/1/../x")
	f.Fuzz(func(t *testing.T, p string) {
		check := func(r ref) {
			if !filepath.IsLocal(r.title) || !filepath.IsLocal(r.path) || strings.Contains(r.title, "/") || r.version == 0 {
				t.Errorf("%q became %+v", p, r)
			}
		}
		if tok, r, err := parseClientPath(p); err == nil {
			check(r)
			if p != "/"+tok+"/t/"+r.String() {
				t.Errorf("%q became %q and %+v", p, tok, r)
			}
		}
		if r, err := parseFillPath(p); err == nil {
			check(r)
			if p != "/fill/"+r.String() {
				t.Errorf("%q became %+v", p, r)
			}
		}
	})
}
