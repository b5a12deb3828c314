package wire

import (
	"bytes"
	"strconv"
	"strings"
)

const (
	// MaxHead bounds a request's head in bytes.
	MaxHead = 16 << 10
	// maxTarget bounds the target of a request in bytes.
	maxTarget = 8 << 10
	// maxSkip is the longest body that is read to keep a connection.
	maxSkip = 64 << 10
)

// malformed is why a head is not understood, and the status that says so.
type malformed struct {
	status int
	why    string
}

func (m *malformed) Error() string { return m.why }

func bad(why string) *malformed { return &malformed{400, why} }

// headEnd looks for the end of a head in b, of which the first seen bytes were
// looked at before. It returns the length of the head with its empty line, 0
// if it is not there yet, and an error at the first line that does not end in
// CR LF: the lone line feed that some readers accept is how requests are
// smuggled.
func headEnd(b []byte, seen int) (int, error) {
	for at := seen; ; {
		n := bytes.IndexByte(b[at:], '\n')
		if n < 0 {
			return 0, nil
		}
		at += n + 1
		if at < 2 || b[at-2] != '\r' {
			return 0, bad("a line ends in a bare line feed")
		}
		if at >= 4 && b[at-3] == '\n' {
			return at, nil
		}
	}
}

// parseHead reads a whole head (RFC 9112, 2–6) into r.
func parseHead(head string, r *Request) *malformed {
	line, rest, ok := strings.Cut(head, "\r\n")
	if !ok {
		return bad("there is no request line")
	}
	if m := parseLine(line, r); m != nil {
		return m
	}
	r.Fields = r.fields[:0]
	for rest != "\r\n" {
		line, rest, ok = strings.Cut(rest, "\r\n")
		if !ok {
			return bad("the head does not end")
		}
		if m := r.addField(line); m != nil {
			return m
		}
	}
	return r.frame()
}

// parseLine reads "GET /path?query HTTP/1.1".
func parseLine(line string, r *Request) *malformed {
	method, rest, ok := strings.Cut(line, " ")
	if !ok || !isToken(method) || len(method) > 32 {
		return bad("the request line has no method")
	}
	target, version, ok := strings.Cut(rest, " ")
	if !ok || target == "" {
		return bad("the request line has no version")
	}
	if len(version) != 8 || version[:5] != "HTTP/" || version[6] != '.' || !isDigit(version[5]) || !isDigit(version[7]) {
		return bad("the version is malformed")
	}
	if version[5] != '1' {
		return &malformed{505, "only HTTP/1.1 and HTTP/1.0 are spoken in the clear"}
	}
	if len(target) > maxTarget {
		return &malformed{414, "the target is too long"}
	}
	r.Method, r.Major, r.Minor = method, 1, int(version[7]-'0')
	return r.parseTarget(target)
}

// parseTarget reads a target in origin, absolute or asterisk form (RFC 9112,
// 3.2).
func (r *Request) parseTarget(target string) *malformed {
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c == 0x7f || c == '#' {
			return bad("the target holds a character that has to be escaped")
		}
	}
	switch {
	case target[0] == '/':
	case target == "*" && r.Method == "OPTIONS":
		r.Path = "*"
		return nil
	case r.Method == "CONNECT":
		r.Path = "*"
		return nil
	default:
		scheme, rest, ok := strings.Cut(target, "://")
		if !ok || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
			return bad("the target is neither a path nor an absolute URL")
		}
		slash := strings.IndexAny(rest, "/?")
		host := rest
		target = "/"
		if slash >= 0 {
			host = rest[:slash]
			if target = rest[slash:]; target[0] == '?' {
				target = "/" + target
			}
		}
		if host == "" || !validHost(host) {
			return bad("the target's host is malformed")
		}
	}
	path, query, _ := strings.Cut(target, "?")
	decoded, ok := unescape(path)
	if !ok {
		return bad("the path is malformed")
	}
	r.Path, r.Query = decoded, query
	return nil
}

// unescape decodes the percent escapes of a path; it refuses a broken one and
// a NUL byte.
func unescape(p string) (string, bool) {
	first := strings.IndexByte(p, '%')
	if first < 0 {
		return p, true
	}
	out := make([]byte, first, len(p))
	copy(out, p)
	for i := first; i < len(p); i++ {
		c := p[i]
		if c == '%' {
			if i+2 >= len(p) {
				return "", false
			}
			hi, lo := fromHex(p[i+1]), fromHex(p[i+2])
			if hi > 15 || lo > 15 {
				return "", false
			}
			if c = hi<<4 | lo; c == 0 {
				return "", false
			}
			i += 2
		}
		out = append(out, c)
	}
	return string(out), true
}

func fromHex(c byte) byte {
	switch {
	case isDigit(c):
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

// addField reads "Name: value". A folded line begins with a space, which is no
// name, and so is refused (RFC 9112, 5.2).
func (r *Request) addField(line string) *malformed {
	name, value, ok := strings.Cut(line, ":")
	if !ok || !isToken(name) {
		return bad("a header line is malformed")
	}
	value = strings.Trim(value, " \t")
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return bad("a header value holds a control character")
		}
	}
	if len(r.Fields) == MaxFields {
		return &malformed{431, "there are too many header fields"}
	}
	r.Fields = append(r.Fields, Field{name, value})
	return nil
}

// frame decides how long the body is and whether the connection stays (RFC
// 9112, 6 and 9.3). No body means anything here: a short one is skipped, and
// after any other the connection is closed.
func (r *Request) frame() *malformed {
	hosts, lengths, keep := 0, "", false
	coded := false
	for i := range r.Fields {
		f := &r.Fields[i]
		switch len(f.Name) {
		case 4:
			if strings.EqualFold(f.Name, "Host") {
				hosts++
				r.Host = f.Value
			}
		case 10:
			if strings.EqualFold(f.Name, "Connection") {
				for token := range strings.SplitSeq(f.Value, ",") {
					token = strings.Trim(token, " \t")
					r.close = r.close || strings.EqualFold(token, "close")
					keep = keep || strings.EqualFold(token, "keep-alive")
				}
			}
		case 14:
			if strings.EqualFold(f.Name, "Content-Length") {
				if lengths != "" && lengths != f.Value || f.Value == "" {
					return bad("there are two content lengths")
				}
				lengths = f.Value
			}
		case 17:
			coded = coded || strings.EqualFold(f.Name, "Transfer-Encoding")
		}
	}
	if hosts > 1 || hosts == 0 && r.Minor > 0 || !validHost(r.Host) {
		return bad("there has to be one Host")
	}
	if r.Minor == 0 && !keep {
		r.close = true
	}
	if lengths != "" {
		n, err := strconv.ParseUint(lengths, 10, 63)
		if err != nil || lengths[0] == '+' {
			return bad("the content length is not a number")
		}
		if coded {
			return bad("the body has a length and a transfer encoding")
		}
		r.length = int64(n)
		if r.length > maxSkip || r.Get("Expect") != "" {
			r.close, r.length = true, 0
		}
	}
	if coded {
		if r.Minor == 0 || !strings.EqualFold(strings.TrimSpace(r.Join("Transfer-Encoding")), "chunked") {
			return &malformed{501, "the transfer encoding is not known"}
		}
		r.close = true
	}
	return nil
}

func validHost(h string) bool {
	for i := range len(h) {
		switch c := h[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', isDigit(c), strings.IndexByte("-._~%!$&'()*+,;=:[]", c) >= 0:
		default:
			return false
		}
	}
	return true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isToken(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', isDigit(c), strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}
