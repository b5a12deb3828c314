package folder

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/token"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience only bounds a test that would hang.
const patience = time.Minute

// lines is a log that can be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// await waits until there are n lines.
func (l *lines) await(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(patience); strings.Count(l.String(), "\n") < n; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("want %d lines: %s", n, l)
		}
	}
}

// serve serves a folder and returns it with its URL.
func serve(t *testing.T, change func(*Config)) (dir, base string) {
	t.Helper()
	return serveUntil(t, nil, change)
}

// serveUntil is serve that is ended early by end.
func serveUntil(t *testing.T, end <-chan struct{}, change func(*Config)) (dir, base string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "www")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Dir: dir, Listener: l, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	go func() {
		select {
		case <-end:
			cancel()
		case <-ctx.Done():
		}
	}()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return dir, "http://" + l.Addr().String()
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, url string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func TestTypesAndCaching(t *testing.T) {
	dir, base := serve(t, func(c *Config) { c.MaxAge = time.Hour })
	for name, want := range map[string][2]string{
		"v/1.mp4": {"video/mp4", "public, max-age=3600"}, "v/1.M4S": {"video/mp4", "public, max-age=3600"}, "a.m4a": {"audio/mp4", "public, max-age=3600"},
		"m.mpd": {"application/dash+xml", "public, no-cache"}, "m.m3u8": {"application/vnd.apple.mpegurl", "public, no-cache"},
		"s.vtt": {"text/vtt; charset=utf-8", "public, max-age=3600"}, "x": {"application/octet-stream", "public, max-age=3600"},
		"index.html": {"text/html; charset=utf-8", "public, max-age=3600"}, "a b+ü.mp4": {"video/mp4", "public, max-age=3600"},
	} {
		write(t, dir, name, "body of "+name)
		resp, body := get(t, base+"/"+strings.ReplaceAll(strings.ReplaceAll(name, " ", "%20"), "ü", "%C3%BC"))
		if resp.StatusCode != 200 || body != "body of "+name || resp.Header.Get("Content-Type") != want[0] || resp.Header.Get("Cache-Control") != want[1] {
			t.Errorf("%s: %s %v %q", name, resp.Status, resp.Header, body)
		}
	}
	if resp, body := get(t, base+"/"); resp.StatusCode != 200 || body != "body of index.html" {
		t.Errorf("/: %s %q", resp.Status, body)
	}
}

// Nothing but regular files inside the folder is read.
func TestNothingOutsideIsServed(t *testing.T) {
	dir, base := serve(t, nil)
	write(t, dir, "in/v.mp4", "inside")
	write(t, filepath.Dir(dir), "secret", "secret")
	for link, to := range map[string]string{
		"out": "../secret", "abs": filepath.Join(filepath.Dir(dir), "secret"), "up": "..", "loop": "loop", "in/out2": "../../secret", "good": "in/v.mp4", "ind": "in",
	} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, good := range []string{"/good", "/ind/v.mp4", "/in/v.mp4?x=y"} {
		if resp, body := get(t, base+good); resp.StatusCode != 200 || body != "inside" {
			t.Errorf("%s: %s", good, resp.Status)
		}
	}
	for _, path := range []string{
		"/out", "/abs", "/up/secret", "/loop", "/in/out2", "/pipe", "/in", "/in/", "/none", "/in/v.mp4/", "/in/v.mp4/x", "/dev/null",
		"/../secret", "/in/../../secret", "/%2e%2e/secret", "/..%2fsecret", "/in/..%2f..%2fsecret", "/./in/v.mp4", "//in/v.mp4", "/in//v.mp4", `/..%5csecret`, "/" + strings.Repeat("a", 300),
	} {
		c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", path)
		answer, err := io.ReadAll(c)
		c.Close()
		if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 404 ")) || bytes.Contains(answer, []byte("inside")) || bytes.HasSuffix(answer, []byte("secret")) {
			t.Errorf("%s: %.60q %v", path, answer, err)
		}
	}
}

// What keeps a file from being opened for the moment does not make it absent.
func TestRefusals(t *testing.T) {
	for err, want := range map[error]services.Kind{
		syscall.ENOENT: services.NotFound, syscall.ENOTDIR: services.NotFound, syscall.ELOOP: services.NotFound, syscall.ENAMETOOLONG: services.NotFound, syscall.ENXIO: services.NotFound,
		errors.New("path escapes from parent"): services.NotFound, // as os.Root says
		syscall.EACCES:                         services.Denied,
		syscall.EMFILE:                         services.Unavailable, syscall.ENFILE: services.Unavailable, syscall.EIO: services.Unavailable, syscall.ENOMEM: services.Unavailable,
	} {
		if got := services.KindOf(refusal(&fs.PathError{Op: "openat", Path: "v.mp4", Err: err})); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
}

// A file's name is bytes, in whatever encoding.
func TestNamesOfAnyEncoding(t *testing.T) {
	dir, base := serve(t, nil)
	write(t, dir, "caf\xe9.mp4", "latin")
	write(t, dir, "\xff\xfe/\x80", "bytes")
	for path, want := range map[string]string{"/caf%E9.mp4": "latin", "/%ff%fe/%80": "bytes"} {
		if resp, body := get(t, base+path); resp.StatusCode != 200 || body != want {
			t.Errorf("%s: %s %q", path, resp.Status, body)
		}
	}
	for _, path := range []string{"/caf%C3%A9.mp4", "/%ff%fe/../caf%E9.mp4", "/%ff%fe//%80", "/%ff%fe/%80/"} {
		if resp, _ := get(t, base+path); resp.StatusCode != 404 {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}

// A file that changes is served as it is at each request, under another tag,
// even when its times and size do not tell.
func TestChangedFiles(t *testing.T) {
	dir, base := serve(t, nil)
	seen := map[string]string{}
	check := func(want string) {
		t.Helper()
		resp, body := get(t, base+"/f.mp4")
		if resp.StatusCode != 200 || body != want {
			t.Fatalf("%s %q, want %q", resp.Status, body, want)
		}
		tag := resp.Header.Get("ETag")
		if old, ok := seen[tag]; ok && old != want || !strings.HasPrefix(tag, `"`) {
			t.Fatalf("%q has the tag %s of %q", want, tag, old)
		}
		seen[tag] = want
		if resp, _ := get(t, base+"/f.mp4", "If-None-Match", tag); resp.StatusCode != 304 {
			t.Errorf("%q: its own tag gives %s", want, resp.Status)
		}
	}
	if resp, _ := get(t, base+"/f.mp4"); resp.StatusCode != 404 {
		t.Error(resp.Status)
	}
	for i := range 200 { // many within one tick of the file system's clock
		write(t, dir, "f.mp4", fmt.Sprintf("body %03d", i))
		check(fmt.Sprintf("body %03d", i))
	}
	write(t, dir, "f.mp4", "longer than it was before")
	check("longer than it was before")
	if err := os.Truncate(filepath.Join(dir, "f.mp4"), 3); err != nil {
		t.Fatal(err)
	}
	check("lon")
	write(t, dir, "g", "renamed")
	if err := os.Rename(filepath.Join(dir, "g"), filepath.Join(dir, "f.mp4")); err != nil {
		t.Fatal(err)
	}
	check("renamed")
	if err := os.Remove(filepath.Join(dir, "f.mp4")); err != nil {
		t.Fatal(err)
	}
	if resp, _ := get(t, base+"/f.mp4"); resp.StatusCode != 404 {
		t.Errorf("removed: %s", resp.Status)
	}
}

func TestSettledFileKeepsItsTag(t *testing.T) {
	now := time.Now()
	var mu sync.Mutex
	dir, base := serve(t, func(c *Config) {
		c.Clock = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
	})
	write(t, dir, "f", "body")
	first, _ := get(t, base+"/f")
	mu.Lock()
	now = now.Add(time.Hour)
	mu.Unlock()
	for range 2 {
		if again, _ := get(t, base+"/f"); again.Header.Get("ETag") != first.Header.Get("ETag") {
			t.Errorf("the tag went from %s to %s", first.Header.Get("ETag"), again.Header.Get("ETag"))
		}
	}
}

// What is written over a file while it is sent ends its answer; what is added to
// its end does not.
func TestFileChangedWhileItIsSent(t *testing.T) {
	const size = 32 << 20 // more than sockets hold
	dir, base := serve(t, nil)
	path := filepath.Join(dir, "v.mp4")
	for _, c := range []struct {
		name  string
		flag  int
		whole bool
	}{{"written over", 0, false}, {"added to", os.O_APPEND, true}} {
		t.Run(c.name, func(t *testing.T) {
			write(t, dir, "v.mp4", strings.Repeat("a", size))
			if past := time.Now().Add(-time.Hour); os.Chtimes(path, past, past) != nil {
				t.Fatal("cannot set the file's time")
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/v.mp4", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			f, err := os.OpenFile(path, os.O_WRONLY|c.flag, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString("b"); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, resp.Body); (err == nil) != c.whole {
				t.Errorf("%d of %d bytes, error %v", n, size, err)
			}
		})
	}
}

func TestSignedURLs(t *testing.T) {
	key, err := token.NewKey("/folder", bytes.Repeat([]byte("k"), 32))
	if err != nil {
		t.Fatal(err)
	}
	other, err := token.NewKey("/folder", bytes.Repeat([]byte("x"), 32))
	if err != nil {
		t.Fatal(err)
	}
	log := &lines{}
	dir, base := serve(t, func(c *Config) { c.Key, c.Access = &key, log })
	write(t, dir, "movie/v.mp4", "movie")
	write(t, dir, "movies/v.mp4", "movies")
	now := time.Now()
	sign := func(k token.Key, aud token.Audience, title, client string, ttl time.Duration) string {
		return "/" + k.Sign(aud, token.Claims{Title: title, Client: client}, now, ttl)
	}
	for _, c := range []struct {
		path   string
		status int
		reason string
	}{
		{sign(key, token.URL, "", "", time.Hour) + "/movie/v.mp4", 200, ""},
		{sign(key, token.URL, "movie", "127.0.0.1", time.Hour) + "/movie/v.mp4", 200, ""},
		{sign(key, token.URL, "movie/v.mp4", "", time.Hour) + "/movie/v.mp4", 200, ""},
		{sign(key, token.URL, "movie", "", time.Hour) + "/movies/v.mp4", 403, "token_title"},
		{sign(key, token.URL, "movie", "", time.Hour) + "/movie/../movies/v.mp4", 404, ""},
		{sign(key, token.URL, "", "198.18.0.1", time.Hour) + "/movie/v.mp4", 403, "token_client"},
		{sign(key, token.URL, "", "", -time.Second) + "/movie/v.mp4", 403, "token_expired"},
		{sign(other, token.URL, "", "", time.Hour) + "/movie/v.mp4", 403, "token_forged"},
		{sign(key, token.Fill, "", "", time.Hour) + "/movie/v.mp4", 403, "token_forged"},
		{"/movie/v.mp4", 403, "token_malformed"},
		{"/v.mp4", 403, "token_missing"},
		{"/", 403, "token_missing"},
	} {
		resp, body := get(t, base+c.path)
		if resp.StatusCode != c.status || c.reason != "" && !strings.Contains(body, `"reason":"`+c.reason+`"`) {
			t.Errorf("%s: %s %s, want %d %s", c.path, resp.Status, body, c.status, c.reason)
		}
	}
	log.await(t, 12)
	if tok := sign(key, token.URL, "", "", time.Hour); strings.Contains(log.String(), tok[:40]) {
		t.Error("the access log holds a token")
	}
}

func TestAnnouncedPrefixes(t *testing.T) {
	dir, base := serve(t, func(c *Config) { c.Announced = []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15")} })
	write(t, dir, "f", "x")
	if resp, body := get(t, base+"/f"); resp.StatusCode != 403 || !strings.Contains(body, "client_not_routed") {
		t.Errorf("%s %s", resp.Status, body)
	}
}

func TestAccessLog(t *testing.T) {
	log := &lines{}
	dir, base := serve(t, func(c *Config) { c.Access, c.AccessCMCD = log, true })
	write(t, dir, "f.mp4", "0123456789")
	get(t, base+"/f.mp4")
	get(t, base+"/f.mp4?CMCD=sid%3D%22s1%22%2Cbr%3D3200%2Csu", "Range", "bytes=0-3")
	log.await(t, 1) // a line is written after the answer
	get(t, base+"/none", "CMCD-Session", `sid="s2",v=2,e=ps,br=x`)
	log.await(t, 2)
	var got []map[string]any
	for l := range strings.Lines(log.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(l), &m); err != nil {
			t.Fatal(err)
		}
		got = append(got, m)
	}
	if len(got) != 2 {
		t.Fatalf("%d lines, want those with CMCD: %s", len(got), log)
	}
	if c, _ := got[0]["cmcd"].(map[string]any); got[0]["status"] != 206.0 || got[0]["bytes"] != 4.0 || got[0]["path"] != "/f.mp4" || c["sid"] != "s1" || c["br"] != 3200.0 || c["su"] != true {
		t.Errorf("%v", got[0])
	}
	if c, _ := got[1]["cmcd"].(map[string]any); got[1]["status"] != 404.0 || c["sid"] != "s2" || c["e"] != "ps" || got[1]["cmcd_bad"] != 1.0 {
		t.Errorf("%v", got[1])
	}
}

func FuzzRelative(f *testing.F) {
	for _, s := range []string{"/a", "/", "/../a", "/a/../b", "//a", "/a\\b", "/\x00", "a", "/a/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if name := relative(p); name != "" && (!filepath.IsLocal(name) || strings.Contains(name, "\\")) {
			t.Errorf("%q became %q", p, name)
		}
	})
}

// FuzzAdmit: no path is let in without a token that was signed.
func FuzzAdmit(f *testing.F) {
	key, err := token.NewKey("/folder", bytes.Repeat([]byte("k"), 32))
	if err != nil {
		f.Fatal(err)
	}
	s := &Server{c: Config{Key: &key, Clock: func() time.Time { return time.Unix(1_000_000, 0) }}}
	good := key.Sign(token.URL, token.Claims{Title: "movie"}, time.Unix(1_000_000, 0), time.Hour)
	f.Add("/" + good + "/movie/v.mp4")
	f.Add("/" + good + "/movies/v.mp4")
	f.Add("/x.y/movie")
	f.Fuzz(func(t *testing.T, p string) {
		rest, err := s.admit(p, netip.MustParseAddr("127.0.0.1"))
		if err == nil && (!strings.HasPrefix(p, "/"+good+"/") && !strings.HasPrefix(p, good+"/") || rest != "/movie" && !strings.HasPrefix(rest, "/movie/")) {
			t.Errorf("%q was let in to %q", p, rest)
		}
	})
}
