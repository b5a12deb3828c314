package wire

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
	"time"
)

// FuzzHead compares with net/http: what is accepted here means the same there.
func FuzzHead(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET http://a/b?c HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
		"GET /%2e%2e/x HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n folded\r\n\r\n",
		"GET / HTTP/1.1\nHost: a\n\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > MaxHead {
			return
		}
		n, err := headEnd([]byte(text), 0)
		if again, err2 := headEnd([]byte(text), min(len(text), 7)); err == nil && n > 7 && (again != n || err2 != nil) && !strings.Contains(text[:min(len(text), 7)], "\n") {
			t.Fatalf("the end of the head depends on how it arrives: %d, %d", n, again)
		}
		if err != nil || n == 0 {
			return
		}
		var r Request
		if parseHead(text[:n], &r) != nil {
			return
		}
		if len(r.Fields) > MaxFields || strings.ContainsAny(r.Path, "\x00") || r.Path != "*" && !strings.HasPrefix(r.Path, "/") {
			t.Fatalf("%q became %+v", text, r)
		}
		for _, fl := range r.Fields {
			if strings.ContainsAny(fl.Name+fl.Value, "\r\n\x00") {
				t.Fatalf("%q has the field %q", text, fl)
			}
		}
		std, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			return // stricter there: nothing to compare
		}
		if std.Method != r.Method || r.Path != "*" && std.URL.Path != r.Path && std.URL.Path != "" {
			t.Fatalf("%q: %s %q here, %s %q there", text, r.Method, r.Path, std.Method, std.URL.Path)
		}
		if chunked := len(std.TransferEncoding) > 0; chunked && !r.close {
			t.Fatalf("%q: a chunked body and the connection stays", text)
		} else if !chunked && std.ContentLength > 0 && std.ContentLength != r.length && !r.close {
			t.Fatalf("%q: a body of %d there, %d here", text, std.ContentLength, r.length)
		}
	})
}

// FuzzRanges checks that spans lie in the file, are apart and few.
func FuzzRanges(f *testing.F) {
	for _, s := range []string{"bytes=0-", "bytes=-5", "bytes=0-0,-1", "bytes=5-4", "bytes=0-99,50-149", "bytes=9999999999999999999999-", "bytes=,,", "BYTES= 1-2 , 3-", "bytes=-0"} {
		f.Add(s, int64(100))
	}
	f.Add("bytes=0-", int64(0))
	f.Fuzz(func(t *testing.T, value string, size int64) {
		if size < 0 {
			return
		}
		var array [4]span
		spans, out := parseRanges(value, size, array[:0])
		if (out == partial) != (len(spans) > 0) || len(spans) > maxRanges {
			t.Fatalf("%q of %d: %v, %v", value, size, spans, out)
		}
		total := int64(0)
		for i, s := range spans {
			if s.off < 0 || s.length <= 0 || s.off+s.length > size || s.off+s.length < s.off {
				t.Fatalf("%q of %d: %v", value, size, spans)
			}
			total += s.length
			for _, o := range spans[:i] {
				if s.off < o.off+o.length && o.off < s.off+s.length {
					t.Fatalf("%q of %d: %v overlap", value, size, spans)
				}
			}
		}
		if total > size {
			t.Fatalf("%q of %d: %d bytes", value, size, total)
		}
	})
}

// FuzzConditions checks that nothing panics and that "*" and the tag match.
func FuzzConditions(f *testing.F) {
	f.Add(`"tag"`, "Tue, 03 Feb 2026 04:05:06 GMT")
	f.Add(`W/"a", "b"`, "Tuesday, 03-Feb-26 04:05:06 GMT")
	f.Add(`*`, "x")
	f.Fuzz(func(t *testing.T, tags, date string) {
		m := &Meta{ETag: `"tag"`, Modified: modified}
		r := Request{Method: "GET", Fields: []Field{{"If-None-Match", tags}, {"If-Modified-Since", date}, {"If-Range", tags}, {"If-Unmodified-Since", date}}}
		if v := conditions(&r, m); tags == `"tag"` && v != notModified && v != failed {
			t.Fatalf("%q, %q: %v", tags, date, v)
		}
		if rangeHolds(&r, m, time.Now()) && strings.HasPrefix(tags, "W/") {
			t.Fatalf("a weak tag %q holds a range", tags)
		}
	})
}
