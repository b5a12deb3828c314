package oca_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/token"

	"github.com/flix-lab/flix/oca"
)

// An address of us-east-isp-1, one of us-east-isp-2.
const (
	insider  = "198.18.0.7"
	neighbor = "198.18.16.7"
)

// served is an exchange and an ISP's appliance that hold one title.
func served(t *testing.T) (s *site, exchange, embedded *appliance, asset *pb.Asset) {
	s = newSite(t, 1)
	s.startControl("us-east")
	asset = s.title("tt-a", 3, 100_000, 20)
	asset.Files[1].Path = "index.json"
	s.s3.put("titles/tt-a/3/index.json", s.body2("titles/tt-a/3/v1.mp4"))
	s.publish("us-east", asset)
	exchange = s.startAppliance("us-east/us-east-ix/oca/1")
	s.startAppliance("us-east/us-east-ix/oca/2")
	embedded = s.startAppliance("us-east/us-east-isp-1/oca/1")
	s.startAppliance("us-east/us-east-isp-1/oca/2")
	s.waitFilled("us-east", 4, asset)
	return s, exchange, embedded, asset
}

func (s *site) body2(key string) []byte {
	s.s3.mu.Lock()
	defer s.s3.mu.Unlock()
	return s.s3.objects[key]
}

func get(t *testing.T, c *http.Client, method, url string, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, b
}

func TestServe(t *testing.T) {
	s, exchange, embedded, asset := served(t)
	t.Run("ranges", func(t *testing.T) { testRanges(t, s, embedded, asset) })
	t.Run("headers", func(t *testing.T) { testHeaders(t, s, embedded, asset) })
	t.Run("tokens", func(t *testing.T) { testTokens(t, s, exchange, embedded, asset) })
	t.Run("plain", func(t *testing.T) { testPlain(t, s, exchange, embedded, asset) })
	t.Run("fill side", func(t *testing.T) { testFillSide(t, s, embedded, asset) })
	t.Run("proxy protocol", func(t *testing.T) { testProxyProtocol(t, s, embedded, asset) })
	t.Run("trace", func(t *testing.T) { testTrace(t, s, embedded, asset) })
	t.Run("bandwidth", func(t *testing.T) { testBandwidth(t, s, exchange, asset) })
	// The other one: what it counts is of nobody else.
	t.Run("metrics", func(t *testing.T) { testMetrics(t, s, s.ocas["us-east/us-east-isp-1/oca/2"], asset) })
}

func testRanges(t *testing.T, s *site, a *appliance, asset *pb.Asset) {
	body := s.body(asset, 0)
	etag := `"` + hex.EncodeToString(asset.Files[0].Sha256) + `"`
	for _, proto := range []string{"HTTP/2.0", "HTTP/1.1"} {
		client := s.httpClient(insider)
		tr, _ := client.Transport.(*http.Transport)
		tr.ForceAttemptHTTP2 = proto == "HTTP/2.0"
		for _, c := range []struct {
			rng, ifRange string
			status       int
			from, to     int // of the body
		}{
			{rng: "", status: 200, from: 0, to: 100_000},
			{rng: "bytes=0-", status: 206, from: 0, to: 100_000},
			{rng: "bytes=0-0", status: 206, from: 0, to: 1},
			{rng: "bytes=99999-", status: 206, from: 99_999, to: 100_000},
			{rng: "bytes=500-999", status: 206, from: 500, to: 1000},
			{rng: "bytes=90000-200000", status: 206, from: 90_000, to: 100_000},
			{rng: "bytes=-100", status: 206, from: 99_900, to: 100_000},
			{rng: "bytes=-200000", status: 206, from: 0, to: 100_000},
			{rng: "bytes=100000-", status: 416},
			{rng: "bytes=-0", status: 416},
			{rng: "bytes= -00", status: 416},
			// What is malformed asks for nothing (RFC 9110, 14.2).
			{rng: "bytes=5-4", status: 200, from: 0, to: 100_000},
			{rng: "bytes=a-b", status: 200, from: 0, to: 100_000},
			{rng: "chunks=0-1", status: 200, from: 0, to: 100_000},
			{rng: "bytes=0-9", ifRange: etag, status: 206, from: 0, to: 10},
			{rng: "bytes=0-9", ifRange: `"another"`, status: 200, from: 0, to: 100_000},
			{rng: "bytes=0-9", ifRange: "W/" + etag, status: 200, from: 0, to: 100_000},
		} {
			header := []string{"Range", c.rng, "If-Range", c.ifRange}
			if c.rng == "" {
				header = nil
			} else if c.ifRange == "" {
				header = header[:2]
			}
			resp, got := get(t, client, http.MethodGet, s.url(a, asset, 0, insider), header...)
			if resp.Proto != proto || resp.StatusCode != c.status {
				t.Errorf("%s %q if %q: %s %s, want %d", proto, c.rng, c.ifRange, resp.Proto, resp.Status, c.status)
				continue
			}
			if c.status == 416 {
				if resp.Header.Get("Content-Range") != "bytes */100000" {
					t.Errorf("%q: Content-Range %q", c.rng, resp.Header.Get("Content-Range"))
				}
				continue
			}
			if !bytes.Equal(got, body[c.from:c.to]) {
				t.Errorf("%q: %d bytes, want %d", c.rng, len(got), c.to-c.from)
			}
			if want := fmt.Sprintf("bytes %d-%d/100000", c.from, c.to-1); c.status == 206 && resp.Header.Get("Content-Range") != want {
				t.Errorf("%q: Content-Range %q, want %q", c.rng, resp.Header.Get("Content-Range"), want)
			}
		}
	}
	resp, got := get(t, s.httpClient(insider), http.MethodGet, s.url(a, asset, 0, insider), "Range", "bytes=0-9,50-59")
	_, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || resp.StatusCode != http.StatusPartialContent {
		t.Fatalf("two ranges: %s %v", resp.Status, err)
	}
	parts := multipart.NewReader(bytes.NewReader(got), params["boundary"])
	for _, from := range []int{0, 50} {
		part, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(part); !bytes.Equal(b, body[from:from+10]) {
			t.Errorf("the part at %d is wrong", from)
		}
	}
}

func testHeaders(t *testing.T, s *site, a *appliance, asset *pb.Asset) {
	client := s.httpClient(insider)
	u := s.url(a, asset, 0, insider)
	resp, body := get(t, client, http.MethodHead, u)
	etag := `"` + hex.EncodeToString(asset.Files[0].Sha256) + `"`
	for k, want := range map[string]string{
		"ETag": etag, "Content-Length": "100000", "Accept-Ranges": "bytes", "Content-Type": "video/mp4",
		"Cache-Control": "public, max-age=31536000, immutable", "Access-Control-Allow-Origin": "*", "Timing-Allow-Origin": "*",
	} {
		if got := resp.Header.Get(k); got != want {
			t.Errorf("HEAD: %s is %q, want %q", k, got, want)
		}
	}
	if resp.StatusCode != 200 || len(body) != 0 || !strings.Contains(resp.Header.Get("Access-Control-Expose-Headers"), "Content-Range") {
		t.Errorf("HEAD: %s, %d bytes, %v", resp.Status, len(body), resp.Header)
	}
	if resp, _ := get(t, client, http.MethodGet, u, "If-None-Match", etag); resp.StatusCode != http.StatusNotModified {
		t.Errorf("If-None-Match: %s", resp.Status)
	}
	if resp, _ := get(t, client, http.MethodOptions, u, "Origin", "https://example.test", "Access-Control-Request-Headers", "range"); resp.StatusCode != 204 || !strings.Contains(resp.Header.Get("Access-Control-Allow-Headers"), "Range") {
		t.Errorf("OPTIONS: %s %v", resp.Status, resp.Header)
	}
	if resp, _ := get(t, client, http.MethodPost, u); resp.StatusCode != 405 || resp.Header.Get("Allow") == "" {
		t.Errorf("POST: %s", resp.Status)
	}
	if resp, _ := get(t, client, http.MethodGet, s.url(a, asset, 1, insider)+"?CMCD=sid%3D%22x%22"); resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("index.json is %q", resp.Header.Get("Content-Type"))
	}
}

func testTokens(t *testing.T, s *site, exchange, embedded *appliance, asset *pb.Asset) {
	now := time.Now()
	sign := func(aud token.Audience, c token.Claims, ttl time.Duration) string {
		return s.key.Sign(aud, c, now, ttl)
	}
	good := token.Claims{Title: asset.TitleId, Client: insider}
	otherKey, err := token.NewKey("other", bytes.Repeat([]byte("k"), 32))
	if err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/t/%s/3/v0.mp4", asset.TitleId)
	for _, c := range []struct {
		name, from, path string
		a                *appliance
		tok              string
		status           int
		reason           string
	}{
		{"good", insider, path, embedded, sign(token.URL, good, time.Hour), 200, ""},
		{"expired", insider, path, embedded, sign(token.URL, good, -time.Second), 403, "token_expired"},
		{"forged", insider, path, embedded, sign(token.URL, good, time.Hour) + "A", 403, "token_forged"},
		{"no token", insider, path, embedded, "x", 403, "token_malformed"},
		{"another lab", insider, path, embedded, otherKey.Sign(token.URL, good, now, time.Hour), 403, "token_forged"},
		{"another audience", insider, path, embedded, sign(token.Fill, good, time.Hour), 403, "token_forged"},
		{"another title", insider, path, embedded, sign(token.URL, token.Claims{Title: "tt-b", Client: insider}, time.Hour), 403, "token_title"},
		{"no title", insider, path, embedded, sign(token.URL, token.Claims{Client: insider}, time.Hour), 403, "token_title"},
		{"another client", "198.18.0.8", path, embedded, sign(token.URL, good, time.Hour), 403, "token_client"},
		{"no client", insider, path, embedded, sign(token.URL, token.Claims{Title: asset.TitleId}, time.Hour), 403, "token_client"},
		{"outside the ISP", neighbor, path, embedded, sign(token.URL, token.Claims{Title: asset.TitleId, Client: neighbor}, time.Hour), 403, "client_not_routed"},
		{"outside the ISP, at the exchange", neighbor, path, exchange, sign(token.URL, token.Claims{Title: asset.TitleId, Client: neighbor}, time.Hour), 200, ""},
		{"a version before", insider, "/t/tt-a/2/v0.mp4", embedded, sign(token.URL, good, time.Hour), 410, "superseded"},
		{"a file it has not", insider, "/t/tt-a/3/v9.mp4", embedded, sign(token.URL, good, time.Hour), 404, ""},
		{"traversal", insider, "/t/tt-a/3/..%2f..%2f..%2findex.log", embedded, sign(token.URL, good, time.Hour), 404, ""},
		{"traversal of the title", insider, "/t/%2e%2e/3/index.log", embedded, sign(token.URL, good, time.Hour), 404, ""},
		{"nothing", insider, "/", embedded, "x", 404, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, body := get(t, s.httpClient(c.from), http.MethodGet, "https://"+c.a.client+"/"+c.tok+c.path)
			if resp.StatusCode != c.status {
				t.Fatalf("%s: %s", resp.Status, body)
			}
			if c.status == 200 {
				return
			}
			var p services.Problem
			if err := json.Unmarshal(body, &p); err != nil || p.Error == "" || p.Reason != c.reason || resp.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("problem %s (%v), want reason %q", body, err, c.reason)
			}
		})
	}
}

// testPlain asks without TLS and without a PROXY header, as a browser on the
// lab's machine does: it is the client that its URL was signed for.
func testPlain(t *testing.T, s *site, exchange, embedded *appliance, asset *pb.Asset) {
	browser := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, c := range []struct {
		name   string
		a      *appliance
		client string
		status int
	}{
		{"a client of the ISP", embedded, insider, 200},
		{"a client of none", embedded, "192.0.2.9", 403},
		{"a client of none, at the exchange", exchange, "192.0.2.9", 200},
	} {
		tok := s.key.Sign(token.URL, token.Claims{Title: asset.TitleId, Client: c.client, Session: "s-1"}, time.Now(), time.Hour)
		url := fmt.Sprintf("%s/%s/t/%s/3/v0.mp4", c.a.plain, tok, asset.TitleId)
		resp, body := get(t, browser, "GET", url, "Range", "bytes=0-9")
		if want := s.body(asset, 0)[:10]; c.status == 200 && (resp.StatusCode != 206 || !bytes.Equal(body, want)) {
			t.Errorf("%s: %s, %q, want %q", c.name, resp.Status, body, want)
		} else if c.status != 200 && resp.StatusCode != c.status {
			t.Errorf("%s: %s, want %d", c.name, resp.Status, c.status)
		}
		if resp.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: pages may not read it", c.name)
		}
	}
	if resp, _ := get(t, browser, "GET", embedded.plain+"/x/t/"+asset.TitleId+"/3/v0.mp4"); resp.StatusCode != 403 {
		t.Errorf("without a token: %s", resp.Status)
	}
}

func testFillSide(t *testing.T, s *site, a *appliance, asset *pb.Asset) {
	now := time.Now()
	u := a.fill + "/fill/tt-a/3/v0.mp4"
	bearer := "Bearer " + s.key.Sign(token.Fill, token.Claims{}, now, time.Minute)
	for _, c := range []struct {
		url, auth string
		status    int
	}{
		{u, bearer, 206},
		{u, "", 403},
		{u, "Bearer " + s.key.Sign(token.URL, token.Claims{Title: "tt-a"}, now, time.Minute), 403},
		{u, "Bearer " + s.key.Sign(token.Fill, token.Claims{}, now, -time.Minute), 403},
		{a.fill + "/fill/tt-a/3/nothing", bearer, 404},
		{a.fill + "/fill/tt-a/3/..%2findex.log", bearer, 404},
		{a.fill + "/" + s.key.Sign(token.URL, token.Claims{Title: "tt-a"}, now, time.Minute) + "/t/tt-a/3/v0.mp4", bearer, 404},
	} {
		resp, body := get(t, s.httpClient(""), http.MethodGet, c.url, "Authorization", c.auth, "Range", "bytes=99000-")
		if resp.StatusCode != c.status || c.status == 206 && !bytes.Equal(body, s.body(asset, 0)[99_000:]) {
			t.Errorf("%s: %s, want %d", c.url, resp.Status, c.status)
		}
	}
	if resp, _ := get(t, s.httpClient(""), http.MethodDelete, u, "Authorization", bearer); resp.StatusCode != 405 {
		t.Errorf("DELETE: %s", resp.Status)
	}
}

func testProxyProtocol(t *testing.T, s *site, a *appliance, asset *pb.Asset) {
	// Without a header from a peer that has to send one there is no answer.
	if resp, err := s.httpClient("").Get(s.url(a, asset, 0, "127.0.0.1")); err == nil {
		resp.Body.Close()
		t.Errorf("without a PROXY header: %s", resp.Status)
	}
	c, err := net.Dial("tcp", a.client)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "PROXY TCP4 198.18.0.7 127.0.0.1 4321 443\r\n")
	tc := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	if err := tc.HandshakeContext(t.Context()); err == nil {
		t.Error("PROXY protocol version 1 is taken")
	}
	// TLS 1.2 is not.
	d := s.httpClient(insider)
	tr, _ := d.Transport.(*http.Transport)
	tr.TLSClientConfig.MaxVersion = tls.VersionTLS12
	if resp, err := d.Get(s.url(a, asset, 0, insider)); err == nil {
		resp.Body.Close()
		t.Error("TLS 1.2 is taken")
	}
}

func testTrace(t *testing.T, s *site, a *appliance, asset *pb.Asset) {
	const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	get(t, s.httpClient(insider), http.MethodGet, s.url(a, asset, 0, insider), "Traceparent", "00-"+trace+"-"+parent+"-01")
	eventually(t, func() string {
		spans := a.tel.Spans(trace)
		if len(spans) != 1 || spans[0].Name != "oca GET v0.mp4" || spans[0].ParentID != parent {
			return fmt.Sprintf("spans %+v", spans)
		}
		return ""
	})
	// A client that sends none is found by the trace its URL was signed for.
	const play = "11112222333344445555666677778888"
	tok := s.key.Sign(token.URL, token.Claims{Title: asset.TitleId, Client: insider, Trace: play}, time.Now(), time.Hour)
	get(t, s.httpClient(insider), http.MethodGet, fmt.Sprintf("https://%s/%s/t/tt-a/3/v0.mp4", a.client, tok))
	eventually(t, func() string {
		if spans := a.tel.Spans(play); len(spans) != 1 {
			return fmt.Sprintf("spans %+v", spans)
		}
		return ""
	})
}

func testBandwidth(t *testing.T, s *site, a *appliance, asset *pb.Asset) {
	a.tel.Properties.Set(map[string]string{oca.PropertyBandwidth: "4M"}) // 500 kB/s: 200 kB in 269 ms, but for a first chunk of 64 KiB
	defer a.tel.Properties.Set(map[string]string{oca.PropertyBandwidth: ""})
	for _, h2 := range []bool{true, false} {
		client := s.httpClient(insider)
		tr, _ := client.Transport.(*http.Transport)
		tr.ForceAttemptHTTP2 = h2
		start := time.Now()
		for range 2 {
			if _, got := get(t, client, http.MethodGet, s.url(a, asset, 0, insider)); !bytes.Equal(got, s.body(asset, 0)) {
				t.Error("wrong bytes")
			}
		}
		if took := time.Since(start); took < 260*time.Millisecond {
			t.Errorf("twice 100 kB took %v at 500 kB/s (HTTP/2 %v)", took, h2)
		}
	}
}

func testMetrics(t *testing.T, s *site, a *appliance, asset *pb.Asset) {
	before := gather(t, a.tel.Metrics)
	get(t, s.httpClient(insider), http.MethodGet, s.url(a, asset, 0, insider), "Range", "bytes=0-999")
	eventually(t, func() string {
		after := gather(t, a.tel.Metrics)
		if after["oca_bytes_sent_total"] != before["oca_bytes_sent_total"]+1000 || after["oca_requests_total 206"] != before["oca_requests_total 206"]+1 {
			return fmt.Sprint(after)
		}
		if after["oca_stored_files"] != 2 || after["oca_healthy"] != 1 || after["oca_connections"] < 1 {
			return fmt.Sprint(after)
		}
		return ""
	})
}

func gather(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			out[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return out
}

func TestDrain(t *testing.T) {
	s, _, a, small := served(t)
	asset := s.title("tt-b", 1, 16<<20) // more than the buffers on the way to a client that does not read
	s.publish("us-east", asset)
	s.waitFilled("us-east", 4, small, asset)
	client := s.httpClient(insider)
	get(t, client, http.MethodGet, s.url(a, small, 0, insider))
	// A request that is under way holds it up.
	resp, err := client.Get(s.url(a, asset, 0, insider))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := a.Drain(short); err == nil {
		t.Fatal("drained while it answers")
	}
	eventually(t, func() string {
		if fillOf(s, a.id).Healthy {
			return "cache control still takes it for healthy"
		}
		return ""
	})
	if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, s.body(asset, 0)) {
		t.Fatalf("the request under way was cut: %d bytes, %v", len(got), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := a.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	// Every connection goes once it was answered.
	get(t, client, http.MethodGet, s.url(a, small, 0, insider))
	eventually(t, func() string {
		if n := gather(t, a.tel.Metrics)["oca_connections"]; n != 0 {
			return fmt.Sprintf("%.0f connections", n)
		}
		return ""
	})
}

func TestNewRefusesMissingDeps(t *testing.T) {
	if _, err := oca.New(oca.Deps{}); services.KindOf(err) != services.Invalid {
		t.Errorf("New without anything: %v", err)
	}
}
