package objects

import (
	"io"
	"net/url"
	"strings"
	"testing"
)

func FuzzChunkReader(f *testing.F) {
	f.Add(chunked(newSigner(), "", "hello ", "world"), true, false, int64(11))
	f.Add(chunked(newSigner(), "x-amz-checksum-crc32c:AAAA", "hello"), true, true, int64(5))
	f.Add(chunked(nil, "x-amz-checksum-crc32c:AAAA", "hello"), false, true, int64(5))
	f.Add("ffffffffffffffff\r\n", false, false, int64(1))
	f.Add("0\r\n\r\n", false, false, int64(0))
	f.Fuzz(func(t *testing.T, in string, signed, trailing bool, want int64) {
		var s *chunkSigner
		if signed {
			s = newSigner()
		}
		c := newChunkReader(strings.NewReader(in), s, trailing, want)
		n, err := io.Copy(io.Discard, c)
		if err == nil && n != want {
			t.Errorf("%d bytes passed for %d", n, want)
		}
		if n > int64(len(in)) || n > max(want, 0) {
			t.Errorf("%d bytes out of %d, %d declared", n, len(in), want)
		}
	})
}

func FuzzParseRange(f *testing.F) {
	for _, h := range []string{"bytes=0-", "bytes=-5", "bytes=3-4", "bytes=9-1", "bytes=-", "bytes=0-1,2-3", "bytes=99999999999999999999-", "items=1-2"} {
		f.Add(h, int64(10))
	}
	f.Fuzz(func(t *testing.T, h string, size int64) {
		if size < 0 {
			return
		}
		s, ok, err := parseRange(h, size)
		if ok && (err != nil || s.length <= 0 || s.offset < 0 || s.offset+s.length > size) {
			t.Errorf("%q of %d: %+v, %v", h, size, s, err)
		}
	})
}

func FuzzParseAuthorization(f *testing.F) {
	sig := strings.Repeat("0", 64)
	f.Add(signAlgorithm + " Credential=k/20260101/r/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature=" + sig)
	f.Add(signAlgorithm + " Credential=k/20260101/r/s3/aws4_request,SignedHeaders=host,Signature=" + sig)
	f.Add(signAlgorithm + " Credential=, SignedHeaders=;, Signature=")
	f.Add("AWS k:s")
	f.Fuzz(func(t *testing.T, h string) {
		a, err := parseAuthorization(h)
		if err == nil && (a.accessKey == "" || len(a.signed) == 0 || len(a.signature) != 64 || a.scope.service != signService) {
			t.Errorf("%q passed as %+v", h, a)
		}
	})
}

func FuzzParsePresigned(f *testing.F) {
	f.Add(strings.SplitN(presign(presigned{host: "h", bucket: "b", key: "k", accessKey: "a", secretKey: "s", ttl: maxPresign}), "?", 2)[1])
	f.Add("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=-1")
	f.Fuzz(func(t *testing.T, q string) {
		v, err := url.ParseQuery(q)
		if err != nil {
			return
		}
		a, err := parsePresigned(v)
		if err == nil && (a.expires <= 0 || a.expires > maxPresign || a.accessKey == "") {
			t.Errorf("%q passed as %+v", q, a)
		}
		_ = canonicalQuery(q) // must not panic
	})
}

func FuzzParseEgress(f *testing.F) {
	f.Add(`get media 12 200 "a b"`)
	f.Add("sum media 99")
	f.Add("sum media -1")
	f.Fuzz(func(t *testing.T, line string) {
		if bucket, _, err := parseEgress(line); err == nil && !validBucket(bucket) {
			t.Errorf("%q passed with bucket %q", line, bucket)
		}
	})
}
