package objects

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/flix-lab/flix/services"
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

func TestAuthentication(t *testing.T) {
	r := newRig(t)
	r.put("k", []byte("secret data"))
	get := call{method: "GET", path: "/media/k"}
	r.expect(get, 200, "")
	for _, tc := range []struct {
		name string
		edit func(*call)
		code string
	}{
		{"no signature", func(c *call) { c.unsigned = true }, "AccessDenied"},
		{"wrong secret", func(c *call) { c.secret = "guess" }, "SignatureDoesNotMatch"},
		{"too old", func(c *call) { c.at = time.Now().Add(-maxSkew - time.Minute) }, "RequestTimeTooSkewed"},
		{"from the future", func(c *call) { c.at = time.Now().Add(maxSkew + time.Minute) }, "RequestTimeTooSkewed"},
		{"signature of version 2", func(c *call) { c.unsigned, c.header = true, map[string]string{"Authorization": "AWS k:sig"} }, "AuthorizationHeaderMalformed"},
		{"garbage", func(c *call) { c.unsigned, c.header = true, map[string]string{"Authorization": signAlgorithm + " x"} }, "AuthorizationHeaderMalformed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := get
			tc.edit(&c)
			resp := r.call(c)
			if body := text(t, resp); resp.StatusCode < 400 || resp.StatusCode > 403 || !strings.Contains(body, tc.code) || strings.Contains(body, "secret data") {
				t.Errorf("%d %s, want %s", resp.StatusCode, body, tc.code)
			}
		})
	}
	if _, err := r.minio("guess", false).StatObject(t.Context(), BucketMedia, "k", minio.StatObjectOptions{}); err == nil {
		t.Error("minio-go got in with a wrong secret")
	}
	wrong, err := NewClient(ClientConfig{Endpoint: StaticEndpoint(r.addr), AccessKey: testKey, SecretKey: "guess"})
	if err != nil {
		t.Fatal(err)
	}
	defer wrong.Close()
	if _, err := wrong.Get(t.Context(), BucketMedia, "k", 0, 0); services.KindOf(err) != services.Denied {
		t.Errorf("the client with a wrong secret: %v", err)
	}
}

// A header that changes what a request means must be under its signature.
func TestUnsignedAmzHeaderIsRefused(t *testing.T) {
	r := newRig(t)
	r.put("k", []byte("x"))
	req, err := http.NewRequestWithContext(t.Context(), "PUT", "http://"+r.addr+"/media/copy", nil)
	if err != nil {
		t.Fatal(err)
	}
	signRequest(req, call{})
	req.Header.Set("X-Amz-Copy-Source", "/media/k")
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("status %d, want 403", resp.StatusCode)
	}
}

func TestPresign(t *testing.T) {
	r := newRig(t)
	r.put("titles/ä b/1/v1.mp4", []byte("data"))
	u, err := r.client.Presign(t.Context(), BucketMedia, "titles/ä b/1/v1.mp4", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	fetch := func(u string) (int, string) {
		tr := &http.Transport{}
		defer tr.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), "GET", u, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode, text(t, resp)
	}
	if code, body := fetch(u); code != 200 || body != "data" {
		t.Errorf("the signed URL gave %d %q", code, body)
	}
	for _, bad := range []string{strings.Replace(u, "v1.mp4", "v2.mp4", 1), strings.Replace(u, "Expires=60", "Expires=61", 1), u[:len(u)-1] + "g"} {
		if code, _ := fetch(bad); code != 403 && code != 400 {
			t.Errorf("a changed URL gave %d", code)
		}
	}
	old := presign(presigned{host: r.addr, bucket: BucketMedia, key: "k", accessKey: testKey, secretKey: testSecret, ttl: time.Minute, at: time.Now().Add(-2 * time.Minute)})
	if code, body := fetch(old); code != 403 || !strings.Contains(body, "expired") {
		t.Errorf("an expired URL gave %d %s", code, body)
	}
	theirs, err := r.minio(testSecret, false).PresignedGetObject(t.Context(), BucketMedia, "titles/ä b/1/v1.mp4", time.Minute, nil)
	if err != nil {
		t.Fatal(err)
	}
	if code, body := fetch(theirs.String()); code != 200 || body != "data" {
		t.Errorf("a URL signed by minio-go gave %d %s", code, body)
	}
	if _, err := r.client.Presign(t.Context(), BucketMedia, "k", 8*24*time.Hour); services.KindOf(err) != services.Invalid {
		t.Errorf("a life of eight days: %v", err)
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

func TestChecksums(t *testing.T) {
	// The check values of the algorithms, for "123456789".
	for name, want := range map[string]string{
		"X-Amz-Checksum-Crc32":     "y/Q5Jg==",
		"X-Amz-Checksum-Crc32c":    "4waSgw==",
		"x-amz-checksum-crc64nvme": "rosUhgp5mIg=",
		"x-amz-checksum-sha1":      "98O8HYCOBHMq32eZZczDTKeuNEE=",
	} {
		h := checksumHash(name)
		h.Write([]byte("123456789"))
		if got := base64.StdEncoding.EncodeToString(h.Sum(nil)); got != want {
			t.Errorf("%s = %s, want %s", name, got, want)
		}
	}
}

// chunked encodes a body as a client with signed chunks does.
func chunked(s *chunkSigner, trailer string, chunks ...string) string {
	var b strings.Builder
	for _, c := range append(chunks, "") {
		fmt.Fprintf(&b, "%x", len(c))
		if s != nil {
			s.verify("AWS4-HMAC-SHA256-PAYLOAD", emptySHA256+"\n"+sum([]byte(c)), "")
			b.WriteString(";chunk-signature=" + s.prev)
		}
		b.WriteString("\r\n" + c)
		if c != "" {
			b.WriteString("\r\n")
		}
	}
	if trailer == "" {
		return b.String() + "\r\n"
	}
	b.WriteString(trailer + "\r\n")
	if s != nil {
		s.verify("AWS4-HMAC-SHA256-TRAILER", sum([]byte(trailer+"\n")), "")
		b.WriteString("x-amz-trailer-signature:" + s.prev + "\r\n")
	}
	return b.String() + "\r\n"
}

func newSigner() *chunkSigner {
	return &chunkSigner{key: []byte("key"), amzDate: "20260101T000000Z", scope: "scope", prev: strings.Repeat("0", 64)}
}

func TestChunkReader(t *testing.T) {
	const trailer = "x-amz-checksum-crc32c:rth90Q=="
	good := chunked(newSigner(), "", "hello ", "world")
	for _, tc := range []struct {
		name, in string
		signed   bool
		trailing bool
		want     int64
		err      *fault
	}{
		{"signed", good, true, false, 11, nil},
		{"unsigned", chunked(nil, "", "hello ", "world"), false, false, 11, nil},
		{"unsigned trailer", chunked(nil, trailer, "hello ", "world"), false, true, 11, nil},
		{"signed trailer", chunked(newSigner(), trailer, "hello ", "world"), true, true, 11, nil},
		{"changed data", strings.Replace(good, "world", "w0rld", 1), true, false, 11, errBadSignature},
		{"changed trailer", strings.Replace(chunked(newSigner(), trailer, "hello ", "world"), "rth9", "rth8", 1), true, true, 11, errBadSignature},
		{"chunks swapped", chunked(newSigner(), "", "world", "hello ")[:0] + good[len(good)/2:], true, false, 11, errChunkMalformed},
		{"no signatures", chunked(nil, "", "hello ", "world"), true, false, 11, errChunkMalformed},
		{"last chunk missing", good[:strings.LastIndex(good, "0;")], true, false, 11, errIncompleteBody},
		{"cut in a chunk", good[:100], true, false, 11, errIncompleteBody},
		{"longer than declared", good, true, false, 10, errChunkMalformed},
		{"shorter than declared", good, true, false, 12, errIncompleteBody},
		{"bytes after the end", good + "more", true, false, 11, errChunkMalformed},
		{"negative size", "-1\r\n", false, false, 1, errChunkMalformed},
		{"no size", "\r\n", false, false, 1, errChunkMalformed},
		{"trailer without end", "0\r\nno colon\r\n\r\n", false, true, 0, errTrailerMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var signer *chunkSigner
			if tc.signed {
				signer = newSigner()
			}
			for _, r := range []io.Reader{strings.NewReader(tc.in), iotest.OneByteReader(strings.NewReader(tc.in))} {
				if signer != nil {
					signer = newSigner()
				}
				c := newChunkReader(r, signer, tc.trailing, tc.want)
				got, err := io.ReadAll(c)
				switch {
				case tc.err != nil:
					var f *fault
					if !errors.As(err, &f) || f.code != tc.err.code {
						t.Errorf("got %v, want %v", err, tc.err)
					}
				case err != nil || string(got) != "hello world":
					t.Errorf("got %q, %v", got, err)
				case tc.trailing && c.Trailer()["x-amz-checksum-crc32c"] != "rth90Q==":
					t.Errorf("trailer %v", c.Trailer())
				}
			}
		})
	}
}

func TestListing(t *testing.T) {
	r := newRig(t)
	for _, k := range []string{"a", "b/1", "b/2", "b/c/3", "b0", "c/1", "ü"} {
		r.put(k, []byte(k))
	}
	mc := r.minio(testSecret, false)
	for _, tc := range []struct {
		prefix    string
		recursive bool
		max       int
		want      string
	}{
		{"", true, 0, "a b/1 b/2 b/c/3 b0 c/1 ü"},
		{"", true, 2, "a b/1 b/2 b/c/3 b0 c/1 ü"},
		{"", false, 0, "a b/ b0 c/ ü"},
		{"", false, 1, "a b/ b0 c/ ü"},
		{"b/", false, 0, "b/1 b/2 b/c/"},
		{"b", true, 1, "b/1 b/2 b/c/3 b0"},
		{"zz", true, 0, ""},
	} {
		for _, v1 := range []bool{false, true} {
			var got []string
			for o := range mc.ListObjects(t.Context(), BucketMedia, minio.ListObjectsOptions{Prefix: tc.prefix, Recursive: tc.recursive, MaxKeys: tc.max, UseV1: v1}) {
				if o.Err != nil {
					t.Fatal(o.Err)
				}
				got = append(got, o.Key)
			}
			slices.Sort(got)
			if s := strings.Join(got, " "); s != tc.want {
				t.Errorf("prefix %q recursive %v max %d v1 %v: %q, want %q", tc.prefix, tc.recursive, tc.max, v1, s, tc.want)
			}
		}
	}
	infos, err := r.client.List(t.Context(), BucketMedia, "b/")
	if err != nil || len(infos) != 3 || infos[0].Size != 3 {
		t.Errorf("List = %+v, %v", infos, err)
	}
}

func TestBuckets(t *testing.T) {
	r := newRig(t)
	mc, ctx := r.minio(testSecret, false), t.Context()
	if err := mc.MakeBucket(ctx, "originals", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	bs, err := mc.ListBuckets(ctx)
	if err != nil || len(bs) != 2 || bs[0].Name != "media" || bs[1].Name != "originals" {
		t.Errorf("ListBuckets = %v, %v", bs, err)
	}
	if ok, err := mc.BucketExists(ctx, "nothing"); ok || err != nil {
		t.Errorf("BucketExists = %v, %v", ok, err)
	}
	r.put("k", []byte("x"))
	if err := mc.RemoveBucket(ctx, "media"); minio.ToErrorResponse(err).Code != "BucketNotEmpty" {
		t.Errorf("removing a full bucket: %v", err)
	}
	for e := range mc.RemoveObjects(ctx, "media", objectsOf("k", "none"), minio.RemoveObjectsOptions{}) {
		t.Error(e.Err)
	}
	if err := mc.RemoveBucket(ctx, "media"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"A-b", "ab", "-abc", "a_b"} {
		r.expect(call{method: "PUT", path: "/" + name}, 400, "InvalidBucketName")
	}
}

func objectsOf(keys ...string) <-chan minio.ObjectInfo {
	ch := make(chan minio.ObjectInfo, len(keys))
	for _, k := range keys {
		ch <- minio.ObjectInfo{Key: k}
	}
	close(ch)
	return ch
}

func TestCopyKeepsMetadata(t *testing.T) {
	r := newRig(t)
	mc, ctx := r.minio(testSecret, false), t.Context()
	_, err := mc.PutObject(ctx, BucketMedia, "src", strings.NewReader("data"), 4, minio.PutObjectOptions{ContentType: "text/x", CacheControl: "no-store", UserMetadata: map[string]string{"Note": "kept"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mc.CopyObject(ctx, minio.CopyDestOptions{Bucket: BucketMedia, Object: "dst"}, minio.CopySrcOptions{Bucket: BucketMedia, Object: "src"}); err != nil {
		t.Fatal(err)
	}
	r.stop()
	r.start()
	o, err := mc.StatObject(ctx, BucketMedia, "dst", minio.StatObjectOptions{})
	if err != nil || o.ContentType != "text/x" || o.UserMetadata["Note"] != "kept" || o.Metadata.Get("Cache-Control") != "no-store" {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestMultipartByHand(t *testing.T) {
	r := newRig(t)
	core, ctx := minio.Core{Client: r.minio(testSecret, false)}, t.Context()
	id, err := core.NewMultipartUpload(ctx, BucketMedia, "m", minio.PutObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	put := func(n int, data []byte) minio.CompletePart {
		t.Helper()
		p, err := core.PutObjectPart(ctx, BucketMedia, "m", id, n, bytes.NewReader(data), int64(len(data)), minio.PutObjectPartOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return minio.CompletePart{PartNumber: n, ETag: p.ETag}
	}
	big, small := noise(minPartSize, 1), []byte("end")
	one, two := put(1, big), put(2, small)
	one = put(1, big) // sent again: it replaces the first
	parts, err := core.ListObjectParts(ctx, BucketMedia, "m", id, 0, 1)
	if err != nil || len(parts.ObjectParts) != 1 || !parts.IsTruncated || parts.NextPartNumberMarker != 1 {
		t.Errorf("ListParts = %+v, %v", parts, err)
	}
	complete := func(ps ...minio.CompletePart) string {
		_, err := core.CompleteMultipartUpload(ctx, BucketMedia, "m", id, ps, minio.PutObjectOptions{})
		return minio.ToErrorResponse(err).Code
	}
	three := put(3, small)
	for _, tc := range []struct {
		parts []minio.CompletePart
		code  string
	}{
		{[]minio.CompletePart{two, three}, "EntityTooSmall"},
		{[]minio.CompletePart{{PartNumber: 1, ETag: two.ETag}}, "InvalidPart"},
		{[]minio.CompletePart{{PartNumber: 9, ETag: two.ETag}}, "InvalidPart"},
		{[]minio.CompletePart{one, two}, ""},
		{[]minio.CompletePart{one, two}, "NoSuchUpload"},
	} {
		if code := complete(tc.parts...); code != tc.code {
			t.Errorf("completing %v: %q, want %q", tc.parts, code, tc.code)
		}
	}
	if got := r.get("m", 0, 0); !bytes.Equal(got, append(big, small...)) {
		t.Error("the parts were joined wrongly")
	}
	id, err = core.NewMultipartUpload(ctx, BucketMedia, "m", minio.PutObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	put(1, small)
	if err := core.AbortMultipartUpload(ctx, BucketMedia, "m", id); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Join(r.dir, uploadsDir)); len(left) != 0 {
		t.Errorf("%d uploads left behind", len(left))
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
