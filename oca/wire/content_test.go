package wire

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Every way the bytes can take has to say the same.
func ways(t *testing.T, size int, f func(t *testing.T, r *rig, c *http.Client, base string)) {
	for _, w := range []struct {
		name    string
		tls, h2 bool
	}{{"plain", false, false}, {"TLS", true, false}, {"HTTP/2", true, true}} {
		t.Run(w.name, func(t *testing.T) {
			change, scheme := func(*Config) {}, "http://"
			if w.tls {
				change, scheme = withTLS(t), "https://"
			}
			r := newRig(t, size, change)
			f(t, r, client(t, w.h2), scheme+r.addr)
		})
	}
}

func fetch(t *testing.T, c *http.Client, method, url string, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s %v: %v", method, header, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %v: %v", method, header, err)
	}
	return resp, b
}

func TestRanges(t *testing.T) {
	const size = 3_000_000 // more than any buffer on the way
	ways(t, size, func(t *testing.T, r *rig, c *http.Client, base string) {
		for _, q := range []struct {
			rng      string
			status   int
			from, to int
		}{
			{"", 200, 0, size},
			{"bytes=0-", 206, 0, size},
			{"bytes=0-0", 206, 0, 1},
			{"bytes=2999999-", 206, size - 1, size},
			{"bytes=2999999-2999999", 206, size - 1, size},
			{"bytes=100-2500000", 206, 100, 2_500_001},
			{"bytes=1000000-99999999999999999999999999", 206, 1_000_000, size},
			{"bytes=-1", 206, size - 1, size},
			{"bytes=-99999999999999999999999", 206, 0, size},
			{"bytes=,, 5-9 ,", 206, 5, 10},
			{"BYTES=5-9", 206, 5, 10},
			{"bytes=5-9,9000000-", 206, 5, 10},
			{"bytes=5-9,7-20", 206, 5, 21},
			{"bytes=3000000-", 416, 0, 0},
			{"bytes=-0", 416, 0, 0},
			{"bytes=9000000-9000001,3000000-", 416, 0, 0},
			{"bytes=", 200, 0, size},
			{"bytes", 200, 0, size},
			{"bytes=-", 200, 0, size},
			{"bytes=9-5", 200, 0, size},
			{"bytes=a-b", 200, 0, size},
			{"bytes=1-2-3", 200, 0, size},
			{"bytes=1-2,x", 200, 0, size},
			{"bytes=+1-2", 200, 0, size},
			{"bytes=0x1-2", 200, 0, size},
			{"bytes 1-2", 200, 0, size},
			{"bytes =1-2", 200, 0, size},
			{"seconds=1-2", 200, 0, size},
			{"bytes=" + strings.Repeat("0-0,", maxRanges) + "5-6", 200, 0, size},
		} {
			header := []string{"Range", q.rng}
			if q.rng == "" {
				header = nil
			}
			resp, body := fetch(t, c, "GET", base+"/v", header...)
			if resp.StatusCode != q.status {
				t.Errorf("%q: %s, want %d", q.rng, resp.Status, q.status)
				continue
			}
			if q.status == 416 {
				if got := resp.Header.Get("Content-Range"); got != "bytes */3000000" || len(body) != 0 || resp.Header.Get("Cache-Control") != "no-store" {
					t.Errorf("%q: Content-Range %q, %d bytes, %v", q.rng, got, len(body), resp.Header)
				}
				continue
			}
			if !bytes.Equal(body, r.body[q.from:q.to]) {
				t.Errorf("%q: %d bytes, want %d", q.rng, len(body), q.to-q.from)
			}
			want := ""
			if q.status == 206 {
				want = fmt.Sprintf("bytes %d-%d/%d", q.from, q.to-1, size)
			}
			if got := resp.Header.Get("Content-Range"); got != want {
				t.Errorf("%q: Content-Range %q, want %q", q.rng, got, want)
			}
			if resp.ContentLength != int64(q.to-q.from) || resp.Header.Get("ETag") != r.etag || resp.Header.Get("Accept-Ranges") != "bytes" {
				t.Errorf("%q: length %d, %v", q.rng, resp.ContentLength, resp.Header)
			}
		}
	})
}

func TestMultipart(t *testing.T) {
	const size = 1_000_000
	ways(t, size, func(t *testing.T, r *rig, c *http.Client, base string) {
		for _, q := range []struct {
			rng   string
			spans [][2]int
		}{
			{"bytes=0-9,20-29", [][2]int{{0, 10}, {20, 30}}},
			{"bytes=500000-999999,0-300000", [][2]int{{500_000, size}, {0, 300_001}}}, // in the order asked for
			{"bytes=0-0,-1,7000000-", [][2]int{{0, 1}, {size - 1, size}}},
			{"bytes=0-99,50-149,200-299", [][2]int{{0, 150}, {200, 300}}}, // overlaps are joined
			{"bytes=0-299999,300001-600000,700000-", [][2]int{{0, 300_000}, {300_001, 600_001}, {700_000, size}}},
		} {
			resp, body := fetch(t, c, "GET", base+"/v", "Range", q.rng)
			kind, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
			if resp.StatusCode != 206 || err != nil || kind != "multipart/byteranges" || resp.Header.Get("Content-Range") != "" || resp.ContentLength != int64(len(body)) {
				t.Errorf("%q: %s %v (%v)", q.rng, resp.Status, resp.Header, err)
				continue
			}
			mr := multipart.NewReader(bytes.NewReader(body), params["boundary"])
			for _, s := range q.spans {
				p, err := mr.NextPart()
				if err != nil {
					t.Fatalf("%q: %v", q.rng, err)
				}
				got, err := io.ReadAll(p)
				if err != nil || !bytes.Equal(got, r.body[s[0]:s[1]]) {
					t.Errorf("%q: part of %d bytes, want %v (%v)", q.rng, len(got), s, err)
				}
				if want := fmt.Sprintf("bytes %d-%d/%d", s[0], s[1]-1, size); p.Header.Get("Content-Range") != want || p.Header.Get("Content-Type") != "video/mp4" {
					t.Errorf("%q: part %v, want %q", q.rng, p.Header, want)
				}
			}
			if _, err := mr.NextPart(); err != io.EOF {
				t.Errorf("%q: more parts than asked for (%v)", q.rng, err)
			}
		}
	})
}

func TestConditions(t *testing.T) {
	const size = 1000
	date := modified.Format(httpDate)
	later := modified.Add(time.Hour).Format(httpDate)
	earlier := modified.Add(-time.Hour).Format(httpDate)
	ways(t, size, func(t *testing.T, r *rig, c *http.Client, base string) {
		for _, q := range []struct {
			header []string
			status int
		}{
			{[]string{"If-None-Match", `"tag"`}, 304},
			{[]string{"If-None-Match", `"a", W/"tag" , "b"`}, 304},
			{[]string{"If-None-Match", `"a"`, "If-None-Match", `"tag"`}, 304},
			{[]string{"If-None-Match", `*`}, 304},
			{[]string{"If-None-Match", `"other"`}, 200},
			{[]string{"If-None-Match", `tag`}, 200},
			{[]string{"If-None-Match", `"tag`}, 200},
			{[]string{"If-None-Match", `"other"`, "If-Modified-Since", later}, 200},
			{[]string{"If-Modified-Since", date}, 304},
			{[]string{"If-Modified-Since", later}, 304},
			{[]string{"If-Modified-Since", earlier}, 200},
			{[]string{"If-Modified-Since", "yesterday"}, 200},
			{[]string{"If-Modified-Since", modified.Format(time.RFC850)}, 304},
			{[]string{"If-Modified-Since", modified.Format(time.ANSIC)}, 304},
			{[]string{"If-Match", `"tag"`}, 200},
			{[]string{"If-Match", `*`}, 200},
			{[]string{"If-Match", `W/"tag"`}, 412},
			{[]string{"If-Match", `"other"`}, 412},
			{[]string{"If-Match", `"tag"`, "If-None-Match", `"tag"`}, 304},
			{[]string{"If-Unmodified-Since", earlier}, 412},
			{[]string{"If-Unmodified-Since", date}, 200},
			{[]string{"Range", "bytes=0-9", "If-Range", `"tag"`}, 206},
			{[]string{"Range", "bytes=0-9", "If-Range", `W/"tag"`}, 200},
			{[]string{"Range", "bytes=0-9", "If-Range", `"other"`}, 200},
			{[]string{"Range", "bytes=0-9", "If-Range", date}, 206},
			{[]string{"Range", "bytes=0-9", "If-Range", later}, 200},
			{[]string{"Range", "bytes=0-9", "If-Range", "nonsense"}, 200},
			{[]string{"Range", "bytes=9000-", "If-Range", `"other"`}, 200},
			{[]string{"Range", "bytes=0-9", "If-Range", `"tag"`, "If-Range", `"other"`}, 200},
			{[]string{"Range", "bytes=0-9", "If-None-Match", `"tag"`}, 304},
		} {
			for _, method := range []string{"GET", "HEAD"} {
				want := q.status
				if method == "HEAD" && want == 206 {
					want = 200 // only GET knows ranges
				}
				resp, body := fetch(t, c, method, base+"/v", q.header...)
				if resp.StatusCode != want {
					t.Errorf("%s %v: %s, want %d", method, q.header, resp.Status, want)
				}
				if want := map[int]int{200: size, 206: 10}[resp.StatusCode]; method == "GET" && len(body) != want {
					t.Errorf("%v: %d bytes, want %d", q.header, len(body), want)
				}
				if resp.Header.Get("ETag") != r.etag {
					t.Errorf("%s %v: no ETag in %v", method, q.header, resp.Header)
				}
				if resp.StatusCode == 304 && (resp.Header.Get("Cache-Control") == "" || resp.Header.Get("Content-Type") != "") {
					t.Errorf("304 with %v", resp.Header)
				}
			}
		}
	})
}

func TestMethodsAndHeaders(t *testing.T) {
	ways(t, 1000, func(t *testing.T, r *rig, c *http.Client, base string) {
		resp, body := fetch(t, c, "HEAD", base+"/v")
		if resp.StatusCode != 200 || resp.ContentLength != 1000 || len(body) != 0 {
			t.Errorf("HEAD: %s, length %d, %d bytes", resp.Status, resp.ContentLength, len(body))
		}
		for k, want := range map[string]string{
			"Content-Type": "video/mp4", "Cache-Control": "public, no-cache", "Access-Control-Allow-Origin": "*", "Timing-Allow-Origin": "*",
			"Last-Modified": modified.Format(httpDate), "Server": "flix",
		} {
			if got := resp.Header.Get(k); got != want {
				t.Errorf("%s is %q, want %q", k, got, want)
			}
		}
		if _, err := time.Parse(httpDate, resp.Header.Get("Date")); err != nil {
			t.Error(err)
		}
		resp, body = fetch(t, c, "OPTIONS", base+"/v", "Origin", "https://a.test", "Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "range, cmcd-session")
		if resp.StatusCode != 204 || len(body) != 0 || !strings.Contains(resp.Header.Get("Access-Control-Allow-Headers"), "CMCD-Session") || resp.Header.Get("Access-Control-Max-Age") == "" || resp.Header.Get("Access-Control-Allow-Private-Network") != "true" {
			t.Errorf("OPTIONS: %s %v", resp.Status, resp.Header)
		}
		for _, method := range []string{"POST", "PUT", "DELETE", "TRACE", "BREW"} {
			if resp, body := fetch(t, c, method, base+"/v"); resp.StatusCode != 405 || resp.Header.Get("Allow") == "" || !bytes.Contains(body, []byte(`"reason":"method"`)) {
				t.Errorf("%s: %s %v", method, resp.Status, resp.Header)
			}
		}
		if resp, body := fetch(t, c, "GET", base+"/none"); resp.StatusCode != 404 || string(body) != "none\n" || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s %q", resp.Status, body)
		}
	})
}

func TestEmptyFile(t *testing.T) {
	ways(t, 0, func(t *testing.T, _ *rig, c *http.Client, base string) {
		for rng, want := range map[string]int{"": 200, "bytes=0-": 416, "bytes=-1": 416, "bytes=x": 200} {
			resp, body := fetch(t, c, "GET", base+"/v", "Range", rng)
			if resp.StatusCode != want || len(body) != 0 {
				t.Errorf("%q: %s, %d bytes, want %d", rng, resp.Status, len(body), want)
			}
		}
	})
}

func TestTLS12IsRefused(t *testing.T) {
	r := newRig(t, 10, withTLS(t))
	c := client(t, false)
	tr, _ := c.Transport.(*http.Transport)
	tr.TLSClientConfig.MaxVersion = 0x0303
	if resp, err := c.Get("https://" + r.addr + "/"); err == nil {
		resp.Body.Close()
		t.Error("TLS 1.2 is spoken")
	}
}
