package wire

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Request is a request on its way to a server. The sender renders it once; it
// stays the caller's.
type Request struct {
	// Addr is host:port of the server, and nothing in the request changes it.
	Addr string
	// Method and Target (path and query as sent) make the request line.
	Method, Target string
	// Host the client named.
	Host string
	// Header is what the client sent end to end. Over replaces fields of the
	// same names in it; both may be nil.
	Header, Over *Fields
	// Upgrade is the protocol to switch to, or "".
	Upgrade string
	// Body is nil for none; ContentLength is -1 when it is not known.
	Body          io.ReadCloser
	ContentLength int64
	// Whole is a body that is there already, instead of Body.
	Whole []byte
	// Trailer is asked for after Body has ended; may be nil. It goes out where
	// ContentLength is -1, as far as MayTrail lets it, and Trailers announce it.
	Trailer  func() *Fields
	Trailers []string
	// Expect says that the client waits for leave to send its body.
	Expect bool
	// Reopen returns the body from its start for another connection; nil if
	// that cannot be.
	Reopen func() (io.ReadCloser, error)
	// Start is when it is sent, Deadline when the answer's header must be there; it
	// has as long from when the last piece of Body came.
	Start, Deadline time.Time
	// Interim gets each answer of a status below 200 but 100 and 101; may be
	// nil.
	Interim InterimReceiver
	// Lifeline, where it stands for the context, spares the sender to watch
	// that; may be nil.
	Lifeline *Lifeline
}

// InterimReceiver takes interim answers.
type InterimReceiver interface{ Interim(status int, h *Fields) }

// idempotent says whether a server may get the request twice, by RFC 9110
// section 9.2.2 or because it knows a repetition by its key.
func (r *Request) idempotent() bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete, http.MethodTrace:
		return true
	}
	return r.Header.Has("Idempotency-Key")
}

// empty says that the request is its head alone.
func (r *Request) empty() bool { return r.Body == nil && len(r.Whole) == 0 }

// Response is a server's final answer. It must not be copied while its Body is
// in use.
type Response struct {
	Status int
	// Header is what concerns both ends; fields of the hop are gone, but for
	// Upgrade with status 101.
	Header *Fields
	// ContentLength is -1 when it is not known.
	ContentLength int64
	// Body is never nil, except with Upgraded. It must be closed.
	Body io.ReadCloser
	// Trailer may be asked after Body has ended; nil if there will be none.
	Trailer func() *Fields
	// Upgraded is the connection after status 101.
	Upgraded io.ReadWriteCloser
	// Ends says that the server ends its connection with the answer.
	Ends bool

	body answerBody
}

// Pieces is a body that can be read without copying.
type Pieces interface {
	io.ReadCloser
	// Next returns the next piece, valid until the next call; more says that
	// the next call, which may only tell the end, will not have to wait.
	Next() (p []byte, more bool, err error)
	// Ready says that the next call of Next will not have to wait.
	Ready() bool
}

// Sender sends requests to servers over pooled connections.
type Sender interface {
	// Send returns once the final answer's header is there and fills resp.
	// The end of ctx ends everything, the body included. A request is sent
	// again, on another connection, only when a pooled one turned out to be
	// dead before it carried any of the answer and the request is safe to
	// repeat. Errors: *ConnectError before anything could be sent,
	// ErrDeadline when Deadline passed.
	Send(ctx context.Context, r *Request, resp *Response) error
	// CloseIdleConnections ends those that carry nothing.
	CloseIdleConnections()
	// Close ends idle connections and waits for what runs beside a Send.
	// Nothing may be sent after it.
	Close()
}

// ConnectError marks an error from before a request could be sent.
type ConnectError struct{ Err error }

// Error implements error.
func (e *ConnectError) Error() string { return "connect: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// hopNames belong to one connection, by RFC 9110 section 7.6.1 and what came
// before it.
var hopNames = [...]string{"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// StripHop removes the fields of the hop, those that Connection names too.
func StripHop(f *Fields) {
	var named []string
	for i := f.index("Connection", 0); i >= 0; i = f.index("Connection", i+1) {
		for name := range strings.SplitSeq(f.list[i].Value, ",") {
			switch name = strings.TrimSpace(name); {
			case name == "", SameName(name, "close"), isHop(name):
			default:
				named = append(named, name)
			}
		}
	}
	f.DelFunc(func(name string) bool {
		return isHop(name) || slices.ContainsFunc(named, func(n string) bool { return SameName(n, name) })
	})
}

func isHop(name string) bool {
	switch len(name) {
	case 2, 7, 10, 16, 17, 18, 19:
	default:
		return false
	}
	for _, h := range hopNames {
		if SameName(name, h) {
			return true
		}
	}
	return false
}

// HasToken says whether one of the comma-separated values of a field is token.
func (f *Fields) HasToken(name, token string) bool {
	for i := f.index(name, 0); i >= 0; i = f.index(name, i+1) {
		v := f.list[i].Value
		if SameName(v, token) {
			return true
		}
		for t := range strings.SplitSeq(v, ",") {
			if SameName(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// ErrDeadline says that the answer's header was not there by the deadline.
var ErrDeadline = errors.New("no answer in time")
