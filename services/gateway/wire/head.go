package wire

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
)

const (
	// maxFields bounds the fields of a header or trailer.
	maxFields = 200
	// maxTrailer bounds the bytes of a trailer.
	maxTrailer = 16 << 10
)

// BadMessage says why a message is refused, and with which status.
type BadMessage struct {
	Status int
	Msg    string
}

// Error implements error.
func (e *BadMessage) Error() string { return e.Msg }

func bad(format string, args ...any) error {
	return &BadMessage{Status: http.StatusBadRequest, Msg: fmt.Sprintf(format, args...)}
}

// head is what the lines of a header say of the message's framing.
type head struct {
	fields   *Fields
	length   int64 // -1 without Content-Length
	chunked  bool
	coded    bool // a Transfer-Encoding was given
	hosts    int
	host     string
	closing  bool // Connection: close
	keep     bool // Connection: keep-alive
	switches bool // Connection: upgrade
	upgrade  string
	expects  []string
	trailers []string // fields that Trailer names
	named    []string // fields that Connection names
}

const (
	isToken  = 1 << iota // may be in a name or method
	isText               // may be in a value
	isTarget             // may be in a request target
)

// chars are the classes of bytes, by RFC 9110 section 5.6.2 and 5.5, and RFC
// 3986.
var chars = func() (t [256]byte) {
	for c := range 256 {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0:
			t[c] |= isToken
		}
		if c == '\t' || c >= ' ' && c != 0x7f {
			t[c] |= isText
		}
		if c > ' ' && c < 0x7f && c != '#' && c != '\\' {
			t[c] |= isTarget
		}
	}
	return t
}()

// IsToken says whether s is a token by RFC 9110 section 5.6.2, as methods and
// names of fields are.
func IsToken(s string) bool { return s != "" && all(s, isToken) }

// all says whether every byte of s is of a class.
func all(s string, class byte) bool {
	for i := 0; i < len(s); i++ {
		if chars[s[i]]&class == 0 {
			return false
		}
	}
	return true
}

// headEnd returns the length of the head at the start of b, blank line
// included, or 0 if more of it must come. It refuses early what no further
// byte can mend, so that a bare LF is not waited on.
func headEnd(b []byte) (int, error) {
	if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
		return i + 4, nil
	}
	for rest := b; ; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			return 0, nil
		}
		if i == 0 || rest[i-1] != '\r' {
			return 0, bad("a line ends without CR")
		}
		rest = rest[i+1:]
	}
}

// line cuts the first line off s, which ends with CRLF.
func cutLine(s string) (line, rest string, err error) {
	i := strings.IndexByte(s, '\n')
	if i < 1 || s[i-1] != '\r' {
		return "", "", bad("a line ends without CR")
	}
	return s[:i-1], s[i+1:], nil
}

// parse reads the lines of fields in s up to its blank line. Fields that speak
// of the connection or the framing are taken in, not kept.
func (h *head) parse(s string) error {
	h.length = -1
	for n := 0; ; n++ {
		line, rest, err := cutLine(s)
		if err != nil {
			return err
		}
		s = rest
		if line == "" {
			break
		}
		if n == maxFields {
			return &BadMessage{http.StatusRequestHeaderFieldsTooLarge, "the header has too many fields"}
		}
		name, value, err := cutField(line)
		if err != nil {
			return err
		}
		kept, err := h.take(name, value)
		if err != nil {
			return err
		}
		if kept {
			h.fields.list = append(h.fields.list, Field{name, value})
		}
	}
	if h.coded && h.length >= 0 {
		return bad("both Content-Length and Transfer-Encoding")
	}
	if len(h.named) > 0 {
		for _, name := range h.named {
			h.fields.Del(name)
		}
	}
	return nil
}

func cutField(line string) (name, value string, err error) {
	i := strings.IndexByte(line, ':')
	if line[0] == ' ' || line[0] == '\t' {
		return "", "", bad("a folded line")
	}
	if i < 1 || !all(line[:i], isToken) {
		return "", "", bad("%.40q is not a field", line)
	}
	value = line[i+1:]
	for value != "" && (value[0] == ' ' || value[0] == '\t') {
		value = value[1:]
	}
	for value != "" && (value[len(value)-1] == ' ' || value[len(value)-1] == '\t') {
		value = value[:len(value)-1]
	}
	if !all(value, isText) {
		return "", "", bad("the value of %s has a control character", line[:i])
	}
	return line[:i], value, nil
}

// take reads a field that speaks of the connection or the framing; kept says
// that it is none.
func (h *head) take(name, value string) (kept bool, err error) {
	switch len(name) {
	case 4:
		if SameName(name, "Host") {
			h.hosts++
			h.host = value
			return false, nil
		}
	case 6:
		if SameName(name, "Expect") {
			h.expects = append(h.expects, value)
			return false, nil
		}
	case 7:
		if SameName(name, "Upgrade") {
			if h.upgrade != "" { // fields of a list are one, by RFC 9110 section 5.3
				value = h.upgrade + ", " + value
			}
			h.upgrade = value
			return false, nil
		}
		if SameName(name, "Trailer") {
			h.announce(value)
			return false, nil
		}
	case 10:
		if SameName(name, "Connection") {
			h.connection(value)
			return false, nil
		}
	case 14:
		if SameName(name, "Content-Length") {
			return false, h.contentLength(value)
		}
	case 17:
		if SameName(name, "Transfer-Encoding") {
			if h.coded {
				return false, bad("more than one Transfer-Encoding")
			}
			h.coded, h.chunked = true, SameName(value, "chunked")
			return false, nil
		}
	}
	return !isHop(name), nil
}

func (h *head) connection(value string) {
	for t := range strings.SplitSeq(value, ",") {
		switch t = strings.Trim(t, " \t"); {
		case t == "":
		case SameName(t, "close"):
			h.closing = true
		case SameName(t, "keep-alive"):
			h.keep = true
		case SameName(t, "upgrade"):
			h.switches = true
		case !isHop(t):
			h.named = append(h.named, t)
		}
	}
}

// announce takes in what may come after the body. A name that is none, or of a
// field that does not come there, is left out.
func (h *head) announce(value string) {
	for name := range strings.SplitSeq(value, ",") {
		if name = strings.Trim(name, " \t"); MayTrail(name) {
			h.trailers = append(h.trailers, name)
		}
	}
}

func (h *head) contentLength(value string) error {
	n, ok := digits(value)
	if !ok {
		return bad("Content-Length: %.40q is not a number of bytes", value)
	}
	if h.length >= 0 {
		return bad("more than one Content-Length")
	}
	h.length = n
	return nil
}

// digits reads a decimal number of at most 18 digits and nothing else.
func digits(s string) (n int64, ok bool) {
	if s == "" || len(s) > 18 {
		return 0, false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}
