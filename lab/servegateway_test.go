package lab

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
)

func TestGatewayStandsAlone(t *testing.T) {
	serve := func(name string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, name+" "+r.Host+r.URL.Path+" "+r.Header.Get("X-Zuul-Evil")+r.Header.Get("X-Flix-Member"))
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	api, rest := serve("api"), serve("rest")
	ctx, cancel := context.WithCancel(t.Context())
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- RunGateway(ctx, Env{Getenv: func(string) string { return "" }}, GatewayOptions{
			Listen: "127.0.0.1:0", Routes: []string{"/api=" + api, "/=" + rest},
		}, pw)
	}()
	line, err := bufio.NewReader(pr).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	drained := make(chan struct{})
	go func() { defer close(drained); _, _ = io.Copy(io.Discard, pr) }()
	url, _, ok := strings.Cut(strings.TrimPrefix(line, "gateway: listening on "), ",")
	if !ok {
		t.Fatalf("it says %q", line)
	}
	preflight, err := http.NewRequestWithContext(t.Context(), "OPTIONS", url+"/api/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	preflight.Header.Set("Origin", "https://page.example")
	preflight.Header.Set("Access-Control-Request-Method", "PUT")
	resp, err := http.DefaultClient.Do(preflight)
	if err != nil {
		t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusOK { // the upstream's
		t.Errorf("a page's preflight: %s", resp.Status)
	}
	for path, want := range map[string]string{"/api/x": "api other.test/api/x ", "/apix": "rest other.test/apix ", "/": "rest other.test/ "} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "other.test" // chooses nothing
		req.Header.Set("X-Zuul-Evil", "1")
		req.Header.Set("X-Flix-Member", "victim")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || string(b) != want {
			t.Errorf("%s: %q, %v; want %q", path, b, err, want)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	_ = pw.Close() // nobody writes any more
	<-drained
}

// What is under way when a gateway ends is answered; nothing new is taken.
func TestGatewayEndsWhenItsRequestsAreAnswered(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(asked)
		<-answer
		_, _ = io.WriteString(w, "whole")
	}))
	t.Cleanup(up.Close)
	ctx, cancel := context.WithCancel(t.Context())
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := RunGateway(ctx, Env{Getenv: func(string) string { return "" }}, GatewayOptions{Listen: "127.0.0.1:0", Routes: []string{"/=" + up.URL}, Drain: time.Minute}, pw)
		_ = pw.Close()
		done <- err
	}()
	said := bufio.NewReader(pr)
	line, err := said.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	url, _, _ := strings.Cut(strings.TrimPrefix(line, "gateway: listening on "), ",")
	type result struct {
		body  string
		close bool
		err   error
	}
	got := make(chan result, 1)
	go func() {
		resp, err := http.Get(url)
		if err != nil {
			got <- result{err: err}
			return
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		got <- result{string(b), resp.Close, err}
	}()
	<-asked
	cancel()
	addr := strings.TrimPrefix(url, "http://")
	for { // until it has heard of its end
		c, err := net.Dial("tcp", addr)
		if err != nil {
			break
		}
		_ = c.Close()
	}
	close(answer)
	if r := <-got; r.err != nil || r.body != "whole" || !r.close {
		t.Errorf("the request under way: %+v", r)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestDeclaredRoutes(t *testing.T) {
	networks := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	table, err := declaredRoutes(t.Context(), []string{"/a=http://127.0.0.1:1,http://127.0.0.1:2", "/a/=http://127.0.0.1:3", "/=http://127.0.0.1"}, networks)
	if err != nil || len(table.Routes) != 2 || len(table.Routes[0].Origins) != 3 || table.Routes[1].Origins[0] != "http://127.0.0.1:80" {
		t.Errorf("%+v, %v", table, err)
	}
	for text, kind := range map[string]services.Kind{
		"": services.Invalid, "/a": services.Invalid, "a=http://127.0.0.1:1": services.Invalid, "/a=": services.Invalid,
		"/a=ftp://127.0.0.1:1": services.Invalid, "/a=http://127.0.0.1:1?q": services.Invalid, "/a=http://127.0.0.1:0": services.Invalid, "/a=http://127.0.0.1:1,http://127.0.0.1:2/x": services.Invalid, "/a=http://127.0.0.1:1,h2c://127.0.0.1:2": services.Invalid,
		"/a/*=http://127.0.0.1:1": services.Invalid, "/a=http://u@127.0.0.1:1": services.Invalid, "/a=http://192.0.2.1:1": services.Denied, "/a=http://127.0.0.1:1,": services.Invalid,
	} {
		if _, err := declaredRoutes(t.Context(), []string{text}, networks); services.KindOf(err) != kind {
			t.Errorf("%q: %v, want %s", text, err, kind)
		}
	}
}

func TestDeclaredUpstreams(t *testing.T) {
	networks := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for text, want := range map[string]upstream{
		"http://127.0.0.1":             {origin: "http://127.0.0.1:80"},
		"http://127.0.0.1:9000/":       {origin: "http://127.0.0.1:9000", rewrite: "/"},
		"h2c://127.0.0.1:9000/v1":      {origin: "h2c://127.0.0.1:9000", rewrite: "/v1"},
		"https://127.0.0.1":            {origin: "https://127.0.0.1:443"},
		"https://LocalHost:8443/a/b/c": {origin: "https://127.0.0.1:8443", serverName: "localhost", rewrite: "/a/b/c"},
	} {
		if got, err := readUpstream(t.Context(), text, networks); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
		}
	}
	if _, err := authorities(t.Context(), "--upstream-ca", "servegateway.go"); services.KindOf(err) != services.Invalid {
		t.Errorf("a file without a certificate: %v", err)
	}
}
