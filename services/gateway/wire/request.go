package wire

import (
	"net/http"
	"net/url"
	"strings"
)

// Head is the head of a request as a client sent it.
type Head struct {
	Method string
	// Target as sent; Path, RawPath and Query are what it says. RawPath is
	// set where Path, encoded anew, would differ.
	Target, Path, RawPath, Query string
	// Host is what the client named, in the target or the Host field.
	Host string
	// Header is end to end.
	Header *Fields
	// ContentLength is 0 without a body and -1 if it is not known.
	ContentLength int64
	// Upgrade is the protocol the client wants to switch to, or "".
	Upgrade string
	// Expect says that the client waits for leave to send its body.
	Expect bool
	// Trailers are the fields that the client announces for after its body.
	Trailers []string

	minor    byte // of the version
	chunked  bool
	closing  bool // the client wants, or must get, a new connection
	fields   Fields
	sections head
}

// parse reads a whole head, blank line included.
func (r *Head) parse(s string) error {
	r.Clear()
	r.Header = &r.fields
	r.sections.fields = &r.fields
	line, rest, err := cutLine(s)
	if err != nil {
		return err
	}
	if err := r.requestLine(line); err != nil {
		return err
	}
	if err := r.sections.parse(rest); err != nil {
		return err
	}
	return r.settle()
}

// Clear lets go of a request's strings and keeps the room for another's.
func (r *Head) Clear() {
	r.fields.Reset()
	*r = Head{fields: r.fields}
}

func (r *Head) requestLine(line string) error {
	method, rest, ok := strings.Cut(line, " ")
	target, version, ok2 := strings.Cut(rest, " ")
	if !ok || !ok2 || method == "" || !all(method, isToken) {
		return bad("%.40q is not a request line", line)
	}
	switch {
	case version == "HTTP/1.1":
		r.minor = 1
	case version == "HTTP/1.0":
	case len(version) == 8 && strings.HasPrefix(version, "HTTP/") && version[6] == '.' && isDigit(version[5]) && isDigit(version[7]):
		return &BadMessage{http.StatusHTTPVersionNotSupported, "this edge speaks HTTP/1.1, and HTTP/2 by agreement in TLS"}
	default:
		return bad("%.40q is not a version of HTTP", version)
	}
	if target == "" || !all(target, isTarget) {
		return bad("%.80q is not a request target", target)
	}
	r.Method, r.Target = method, target
	return nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// Check refuses what a request of another version of HTTP must not say, by the
// rules of HTTP/1.1: written as one of those to a server, a method with a space
// or such a query would be another request than the one that was let through.
func Check(method, target, host string) error {
	switch {
	case !IsToken(method):
		return bad("%.40q is not a method", method)
	case method == http.MethodConnect:
		return errTunnel
	case (target != "*" || method != http.MethodOptions) && (target == "" || target[0] != '/' || !all(target, isTarget)):
		return bad("%.80q is not a request target", target)
	case !goodHost(host):
		return bad("%.80q is not a host", host)
	}
	return nil
}

// CheckExpect refuses what nobody here knows how to meet.
func CheckExpect(value string) error {
	if value != "" && !SameName(value, "100-continue") {
		return &BadMessage{http.StatusExpectationFailed, "the only Expect taken is 100-continue"}
	}
	return nil
}

var errTunnel = &BadMessage{http.StatusMethodNotAllowed, "this edge opens no tunnels"}

// settle makes sense of the target and of the fields.
func (r *Head) settle() error {
	h := &r.sections
	r.Host = h.host
	switch {
	case h.hosts > 1:
		return bad("more than one Host")
	case h.hosts == 0 && r.minor == 1:
		return bad("no Host")
	case !goodHost(h.host):
		return bad("Host: %.80q is not a host", h.host)
	}
	if err := r.readTarget(); err != nil {
		return err
	}
	switch {
	case h.coded && r.minor == 0:
		return bad("Transfer-Encoding in HTTP/1.0")
	case h.chunked:
		r.ContentLength, r.chunked, r.Trailers = -1, true, h.trailers
	case h.coded:
		return &BadMessage{http.StatusNotImplemented, "the only Transfer-Encoding taken is chunked"}
	default:
		r.ContentLength = max(h.length, 0)
	}
	if r.minor == 1 {
		for _, expect := range h.expects {
			if err := CheckExpect(expect); err != nil {
				return err
			}
			r.Expect = r.Expect || expect != "" && r.ContentLength != 0
		}
		if h.switches {
			r.Upgrade = otherThanHTTP(h.upgrade)
		}
	}
	r.closing = h.closing || r.minor == 0 && !h.keep
	return nil
}

// otherThanHTTP leaves those out of a list of protocols in which a client would
// go on with requests that nobody here sees: HTTP itself, of RFC 7540 section 3.2
// too, and TLS by RFC 2817.
func otherThanHTTP(protocols string) string {
	if SameName(protocols, "websocket") {
		return protocols
	}
	var kept []string
	for p := range strings.SplitSeq(protocols, ",") {
		p = strings.Trim(p, " \t")
		switch name, _, _ := strings.Cut(p, "/"); strings.ToLower(name) {
		case "", "h2c", "h2", "http", "tls":
		default:
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, ", ")
}

// readTarget splits the target. A target in absolute form names the host that
// counts, by RFC 9112 section 3.2.2, and nothing else comes of it.
func (r *Head) readTarget() error {
	t := r.Target
	switch {
	case r.Method == http.MethodConnect:
		return errTunnel
	case t == "*" && r.Method == http.MethodOptions:
		r.Path = "*"
		return nil
	case t[0] == '/':
	default:
		rest, ok := cutPrefixFold(t, "http://")
		if !ok {
			rest, ok = cutPrefixFold(t, "https://")
		}
		if !ok {
			return bad("%.80q is not a request target", t)
		}
		i := strings.IndexAny(rest, "/?")
		if i < 0 {
			i = len(rest)
		}
		r.Host = rest[:i]
		if r.Host == "" || !goodHost(r.Host) {
			return bad("the target names %.80q, which is not a host", r.Host)
		}
		if t = rest[i:]; t == "" || t[0] == '?' {
			t = "/" + t
		}
	}
	path, query, _ := strings.Cut(t, "?")
	r.Path, r.Query = path, query
	if strings.IndexByte(path, '%') < 0 && plain(path) {
		return nil
	}
	u, err := url.ParseRequestURI(path)
	if err != nil || u.Path == "" || u.Path[0] != '/' || u.Host != "" && !strings.HasPrefix(path, "//") {
		return bad("the path %.80q is not well encoded", path)
	}
	if strings.HasPrefix(path, "//") { // no authority: RFC 9112 section 3.2.1
		raw, err := url.PathUnescape(path)
		if err != nil {
			return bad("the path %.80q is not well encoded", path)
		}
		r.Path, r.RawPath = raw, path
		return nil
	}
	r.Path, r.RawPath = u.Path, u.RawPath
	return nil
}

// plain says that a path has no byte that net/url would encode.
func plain(p string) bool {
	for i := 0; i < len(p); i++ {
		c := p[i]
		if c == '/' && (i == 0 || p[i-1] != '/') || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || isDigit(c) || c == '-' || c == '.' || c == '_' || c == '~' {
			continue
		}
		return false
	}
	return true
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if HasNamePrefix(s, prefix) {
		return s[len(prefix):], true
	}
	return s, false
}

// goodHost takes a name or address with or without a port; empty is allowed
// where the client names none.
func goodHost(h string) bool {
	for i := 0; i < len(h); i++ {
		switch c := h[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', isDigit(c), c == '-', c == '.', c == '_', c == ':', c == '[', c == ']', c == '~', c == '%':
		default:
			return false
		}
	}
	return true
}
