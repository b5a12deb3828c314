package wire

import (
	"net/netip"
	"strings"
)

// MaxFields bounds the fields of a head.
const MaxFields = 64

// Field is a header field.
type Field struct{ Name, Value string }

// Request is the head of a request. It and what it points to are only valid
// until the handler's Done returns.
type Request struct {
	// Method as sent.
	Method string
	// Path is decoded and begins with a slash, or is "*".
	Path string
	// Query is what follows the question mark, as sent.
	Query string
	// Host as sent; empty only from HTTP/1.0.
	Host string
	// Major and Minor are the version of HTTP.
	Major, Minor int
	// Fields in the order of arrival, without the pseudo fields of HTTP/2.
	Fields []Field
	// Client is the peer's address, or the one a trusted proxy gave.
	Client netip.AddrPort
	// TLS says whether the connection is encrypted.
	TLS bool

	// close: the client asked for it, or the request had a body that is not
	// worth reading.
	close bool
	// conn it came by; nil for HTTP/2.
	conn *conn
	// length of the body to be skipped.
	length int64
	fields [MaxFields]Field
}

// Get returns the first value of a field, or "". The name is matched without
// regard to case.
func (r *Request) Get(name string) string {
	for i := range r.Fields {
		if f := &r.Fields[i]; len(f.Name) == len(name) && strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// Join returns all values of a field, joined by commas as RFC 9110 (5.3) has it.
func (r *Request) Join(name string) string {
	first, more := "", []string(nil)
	for i := range r.Fields {
		f := &r.Fields[i]
		if len(f.Name) != len(name) || !strings.EqualFold(f.Name, name) {
			continue
		}
		switch {
		case first == "" && more == nil:
			first = f.Value
		case more == nil:
			more = []string{first, f.Value}
		default:
			more = append(more, f.Value)
		}
	}
	if more == nil {
		return first
	}
	return strings.Join(more, ", ")
}

// Slow is for a handler that is Prompt: what it does next may have to wait.
func (r *Request) Slow() {
	if r.conn != nil {
		r.conn.leave()
	}
}

func (r *Request) reset() {
	clear(r.fields[:len(r.Fields)])
	client, tls := r.Client, r.TLS
	fields := r.Fields[:0]
	r.Method, r.Path, r.Query, r.Host = "", "", "", ""
	r.Major, r.Minor, r.close, r.length, r.conn = 0, 0, false, 0, nil
	r.Client, r.TLS, r.Fields = client, tls, fields
}
