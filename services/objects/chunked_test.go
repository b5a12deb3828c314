package objects

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

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
