package gateway

import (
	"net/url"
	"strings"
)

// rewritten is the target of a request whose matched path gives way to another,
// as nginx's proxy_pass does with a URI: what follows the match stays as the
// client wrote it, and one slash stands between the two.
func (r *Request) rewritten(matched, by string) string {
	matched = strings.TrimSuffix(matched, "/")
	plain := join(by, r.Path[min(len(matched), len(r.Path)):])
	target := plain
	if r.RawPath != "" {
		target = join(by, afterEncoded(r.RawPath, len(matched)))
	} else if !plainPath(plain) {
		target = (&url.URL{Path: plain}).EscapedPath()
	}
	if r.Query != "" {
		target += "?" + r.Query
	}
	return target
}

// join puts what follows a match behind what takes its place. A path that is
// matched as a whole becomes the other as it is written.
func join(by, rest string) string {
	if rest == "" {
		return by
	}
	return strings.TrimSuffix(by, "/") + "/" + strings.TrimPrefix(rest, "/")
}

// afterEncoded leaves the first n bytes of a path out, each of which may be
// percent-encoded.
func afterEncoded(raw string, n int) string {
	for ; n > 0 && raw != ""; n-- {
		if raw[0] == '%' && len(raw) >= 3 {
			raw = raw[3:]
		} else {
			raw = raw[1:]
		}
	}
	return raw
}
