package objects

import (
	"crypto/md5"
	"encoding/base64"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// call sends a request that the test signs by itself.
type call struct {
	method, path, query string
	header              map[string]string
	body                string
	payload             string // x-amz-content-sha256; "" for the body's digest
	secret              string // "" for the right one
	at                  time.Time
	unsigned            bool
	// raw is what is sent in place of body, after signing.
	raw string
}

func (r *rig) call(c call) *http.Response {
	r.t.Helper()
	sent := c.body
	if c.raw != "" {
		sent = c.raw
	}
	req, err := http.NewRequestWithContext(r.t.Context(), c.method, "http://"+r.addr+"/", strings.NewReader(sent))
	if err != nil {
		r.t.Fatal(err)
	}
	// As it stands, without the cleaning that parsing a URL might do.
	req.URL.Path, req.URL.RawPath, req.URL.RawQuery = c.path, escape(c.path, true), c.query
	for k, v := range c.header {
		req.Header.Set(k, v)
	}
	if !c.unsigned {
		signRequest(req, c)
	}
	tr := &http.Transport{}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = resp.Body.Close(); tr.CloseIdleConnections() })
	return resp
}

// signRequest signs like a client would.
func signRequest(req *http.Request, c call) {
	if c.payload == "" {
		c.payload = sum([]byte(c.body))
	}
	if c.secret == "" {
		c.secret = testSecret
	}
	if c.at.IsZero() {
		c.at = time.Now()
	}
	date := c.at.UTC().Format(amzTimeFormat)
	req.Header.Set("X-Amz-Date", date)
	req.Header.Set("X-Amz-Content-Sha256", c.payload)
	signed := []string{"host"}
	for k := range req.Header {
		signed = append(signed, strings.ToLower(k))
	}
	slices.Sort(signed)
	req.Host = req.URL.Host
	sc := scope{date[:8], signRegion, signService}
	sig := signature(signingKey(c.secret, sc), date, sc, canonicalRequest(req.Method, req.URL.Path, req.URL.RawQuery, signed, headerOf(req), c.payload))
	req.Header.Set("Authorization", signAlgorithm+" Credential="+testKey+"/"+sc.String()+", SignedHeaders="+strings.Join(signed, ";")+", Signature="+sig)
}

func text(t testing.TB, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// expect checks status and S3 error code.
func (r *rig) expect(c call, status int, code string) {
	r.t.Helper()
	resp := r.call(c)
	body := text(r.t, resp)
	if resp.StatusCode != status || code != "" && !strings.Contains(body, "<Code>"+code+"</Code>") {
		r.t.Errorf("%s %s?%s: %d %s, want %d %s", c.method, c.path, c.query, resp.StatusCode, body, status, code)
	}
}

func TestRangesAndConditions(t *testing.T) {
	r := newRig(t)
	r.put("k", []byte("0123456789"))
	info, err := r.client.Stat(t.Context(), BucketMedia, "k")
	if err != nil {
		t.Fatal(err)
	}
	tag, other := quote(info.ETag), `"0123456789abcdef0123456789abcdef"`
	past, future := "Mon, 01 Jan 2001 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
	for _, tc := range []struct {
		name   string
		header map[string]string
		status int
		body   string
	}{
		{"whole", nil, 200, "0123456789"},
		{"range", map[string]string{"Range": "bytes=2-4"}, 206, "234"},
		{"open", map[string]string{"Range": "bytes=7-"}, 206, "789"},
		{"suffix", map[string]string{"Range": "bytes=-3"}, 206, "789"},
		{"long suffix", map[string]string{"Range": "bytes=-30"}, 206, "0123456789"},
		{"past the end", map[string]string{"Range": "bytes=5-99"}, 206, "56789"},
		{"outside", map[string]string{"Range": "bytes=10-"}, 416, "*"},
		{"not a range", map[string]string{"Range": "bytes=4-2"}, 200, "0123456789"},
		{"two ranges", map[string]string{"Range": "bytes=0-1,3-4"}, 200, "0123456789"},
		{"if-range holds", map[string]string{"Range": "bytes=0-1", "If-Range": tag}, 206, "01"},
		{"if-range fails", map[string]string{"Range": "bytes=0-1", "If-Range": other}, 200, "0123456789"},
		{"if-range by an old date", map[string]string{"Range": "bytes=0-1", "If-Range": past}, 200, "0123456789"},
		{"not modified", map[string]string{"If-None-Match": other + ", " + tag}, 304, ""},
		{"modified", map[string]string{"If-None-Match": other}, 200, "0123456789"},
		{"if-match holds", map[string]string{"If-Match": tag}, 200, "0123456789"},
		{"if-match fails", map[string]string{"If-Match": other}, 412, "*"},
		{"not modified since", map[string]string{"If-Modified-Since": future}, 304, ""},
		{"modified since", map[string]string{"If-Unmodified-Since": past}, 412, "*"},
		{"if-none-match wins over the date", map[string]string{"If-None-Match": other, "If-Modified-Since": future}, 200, "0123456789"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			resp := r.call(call{method: "GET", path: "/media/k", header: tc.header})
			if body := text(t, resp); resp.StatusCode != tc.status || tc.body != "*" && body != tc.body {
				t.Errorf("%d %q, want %d %q", resp.StatusCode, body, tc.status, tc.body)
			}
		})
	}
	resp := r.call(call{method: "GET", path: "/media/k", header: map[string]string{"Range": "bytes=2-4"}})
	if cr := resp.Header.Get("Content-Range"); cr != "bytes 2-4/10" {
		t.Errorf("Content-Range %q", cr)
	}
	head := r.call(call{method: "HEAD", path: "/media/k"})
	if head.ContentLength != 10 || head.Header.Get("ETag") != tag || head.Header.Get("Content-Type") != "video/mp4" {
		t.Errorf("HEAD: %v %v", head.ContentLength, head.Header)
	}
}

// Whatever a key looks like, it names an object and nothing else.
func TestKeysStayInside(t *testing.T) {
	r := newRig(t)
	outside := filepath.Join(filepath.Dir(r.dir), "escaped")
	for i, key := range []string{"../../../escaped", "../lock", "a/../../b", "/etc/passwd", "//", ".", "..", "tmp/x", "a", "a/", "a/b", strings.Repeat("d/", 500), "nul\x00byte"} {
		data := "data " + strconv.Itoa(i)
		r.expect(call{method: "PUT", path: "/media/" + key, body: data}, 200, "")
		resp := r.call(call{method: "GET", path: "/media/" + key})
		if got := text(t, resp); got != data {
			t.Errorf("key %q: %d %q", key, resp.StatusCode, got)
		}
	}
	if _, err := os.Stat(outside); !os.IsNotExist(err) {
		t.Error("a file appeared outside the store")
	}
	err := filepath.WalkDir(filepath.Join(r.dir, bucketsDir), func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && len(filepath.Base(p)) != 64 {
			t.Errorf("unexpected file %s", p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	r.expect(call{method: "PUT", path: "/media/" + strings.Repeat("k", 1025), body: "x"}, 400, "KeyTooLongError")
	r.expect(call{method: "PUT", path: "/../x", body: "x"}, 404, "NoSuchBucket")
	r.expect(call{method: "PUT", path: "/.."}, 400, "InvalidBucketName")
	r.expect(call{method: "GET", path: "/media/k", query: "uploadId=..%2F..%2Flock"}, 404, "NoSuchUpload")
	r.expect(call{method: "PUT", path: "/media/a", query: "acl", body: "<x/>"}, 501, "NotImplemented")
}

func TestBodyIsChecked(t *testing.T) {
	r := newRig(t)
	md := func(s string) string { m := md5.Sum([]byte(s)); return base64.StdEncoding.EncodeToString(m[:]) }
	put := func(h map[string]string, payload, raw string) call {
		return call{method: "PUT", path: "/media/k", body: "data", header: h, payload: payload, raw: raw}
	}
	r.expect(put(map[string]string{"Content-Md5": md("data")}, "", ""), 200, "")
	r.expect(put(map[string]string{"Content-Md5": md("else")}, "", ""), 400, "BadDigest")
	r.expect(put(map[string]string{"Content-Md5": "?"}, "", ""), 400, "InvalidDigest")
	r.expect(put(nil, "", "tada"), 400, "XAmzContentSHA256Mismatch")
	r.expect(put(map[string]string{"X-Amz-Checksum-Crc32c": "rth90Q=="}, "", ""), 200, "")
	r.expect(put(nil, payloadUnsigned, "tada"), 200, "")
	r.expect(put(nil, "nonsense", ""), 400, "InvalidRequest")
	r.expect(put(map[string]string{"X-Amz-Checksum-Crc32c": "AAAAAA=="}, "", ""), 400, "BadDigest")
	r.expect(put(map[string]string{"If-None-Match": "*"}, "", ""), 412, "PreconditionFailed")
	if got := string(r.get("k", 0, 0)); got != "tada" {
		t.Errorf("a refused body replaced the object: %q", got)
	}
	if left, _ := os.ReadDir(filepath.Join(r.dir, tempDir)); len(left) != 0 {
		t.Errorf("%d temporary files left behind", len(left))
	}
}

// An aborted GET counts what went out, not what was asked for.
func TestAbortedGetIsCounted(t *testing.T) {
	r := newRig(t)
	const size = 16 << 20
	r.put("big", make([]byte, size))
	rc, err := r.client.Get(t.Context(), BucketMedia, "big", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, rc, 100_000); err != nil {
		t.Fatal(err)
	}
	if err := rc.Close(); err != nil {
		t.Fatal(err)
	}
	r.stop() // waits for the handler
	if n := r.server.EgressBytes(BucketMedia); n < 100_000 || n >= size {
		t.Errorf("egress %d of an aborted GET of %d", n, size)
	}
}

func TestEgressLogIsCompacted(t *testing.T) {
	r := newRig(t)
	r.server.egress.size = egressCompact
	r.put("k", []byte("12345"))
	r.get("k", 0, 0)
	r.stop()
	log, err := os.ReadFile(filepath.Join(r.dir, egressFile))
	if err != nil || string(log) != "sum media 5\n" {
		t.Errorf("the log is %q, %v", log, err)
	}
}
