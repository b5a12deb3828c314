package objects

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"
)

// Signature Version 4, as in "Authenticating Requests (AWS Signature Version
// 4)" of the S3 API reference. Both the server's check and the client's
// presigned URLs are made of these pieces.
const (
	signAlgorithm  = "AWS4-HMAC-SHA256"
	signTerminator = "aws4_request"
	signService    = "s3"
	amzTimeFormat  = "20060102T150405Z"

	payloadUnsigned        = "UNSIGNED-PAYLOAD"
	payloadStream          = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	payloadStreamTrailer   = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	payloadUnsignedTrailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

	// emptySHA256 is the digest of nothing.
	emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// scope is the credential scope of a signature.
type scope struct {
	date, region, service string
}

func (s scope) String() string {
	return s.date + "/" + s.region + "/" + s.service + "/" + signTerminator
}

// signingKey derives the key of a day, region and service from the secret.
func signingKey(secret string, s scope) []byte {
	k := hmacSHA256([]byte("AWS4"+secret), s.date)
	for _, part := range []string{s.region, s.service, signTerminator} {
		k = hmacSHA256(k, part)
	}
	return k
}

func hmacSHA256(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// signature signs a canonical request.
func signature(key []byte, amzDate string, s scope, canonical string) string {
	sum := sha256.Sum256([]byte(canonical))
	return hex.EncodeToString(hmacSHA256(key, signAlgorithm+"\n"+amzDate+"\n"+s.String()+"\n"+hex.EncodeToString(sum[:])))
}

// canonicalRequest builds the text that is signed. The path is the decoded
// one, the query is raw; header returns a header's values joined by commas.
func canonicalRequest(method, path, rawQuery string, signed []string, header func(string) string, payload string) string {
	var b strings.Builder
	b.WriteString(method + "\n" + escape(path, true) + "\n" + canonicalQuery(rawQuery) + "\n")
	for _, h := range signed {
		b.WriteString(h + ":" + strings.Join(strings.Fields(header(h)), " ") + "\n")
	}
	b.WriteString("\n" + strings.Join(signed, ";") + "\n" + payload)
	return b.String()
}

// canonicalQuery sorts and re-escapes a query, without the signature itself.
func canonicalQuery(raw string) string {
	var pairs []string
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		k, v, _ := strings.Cut(part, "=")
		k, v = unescape(k), unescape(v)
		if k == "X-Amz-Signature" {
			continue
		}
		pairs = append(pairs, escape(k, false)+"="+escape(v, false))
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// unescape decodes a query component; what cannot be decoded stays as it is
// and so fails the signature.
func unescape(s string) string {
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}

// escape percent-encodes everything outside RFC 3986's unreserved characters.
func escape(s string, keepSlash bool) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	b.Grow(len(s))
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			c == '-', c == '_', c == '.', c == '~', c == '/' && keepSlash:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	return b.String()
}
