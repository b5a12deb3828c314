package gateway

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/netip"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/flix-lab/flix/services/gateway/wire"
	"github.com/flix-lab/flix/services/token"
)

// Header is the end-to-end header of a message: ordered, names without regard
// to case, a reference as a map is. The codecs keep what belongs to one hop to
// themselves, and what says how long a body is.
type Header = *wire.Fields

// NewHeader returns a header of name, value pairs.
func NewHeader(pairs ...string) Header { return wire.NewFields(pairs...) }

// Request is what the client asks, whatever version of HTTP it speaks.
type Request struct {
	Method string
	// Host the client named; it never decides where the request goes.
	Host string
	// Path is decoded, starts with "/" and has no dot segments.
	Path string
	// RawPath is the path as sent, if decoding Path anew would differ.
	RawPath string
	// Query without the "?".
	Query  string
	Header Header
	// Body is never nil. It ends with an error when it is too long or late.
	Body io.ReadCloser
	// ContentLength is -1 when it is not known.
	ContentLength int64
	// Upgrade is the protocol the client wants to switch to, or "".
	Upgrade string
	// Trailer is asked for after Body has ended; may be nil.
	Trailer func() Header
	// Trailers are the fields of it that the client announces.
	Trailers []string
	// TLS says that the client came over TLS.
	TLS bool

	expect   bool // the client waits for leave to send its body
	trailers bool // the client asks for trailers, as gRPC's do
	interim  wire.InterimReceiver
}

// Response is what the client gets.
type Response struct {
	// Status is 0 until an endpoint, or the mapping of an error, set it.
	Status int
	Header Header
	// Body may be nil; the codec closes it.
	Body io.ReadCloser
	// ContentLength is -1 when it is not known: the body is then passed on
	// piece by piece.
	ContentLength int64
	// Trailer is read after Body has ended; may be nil.
	Trailer func() Header
	// Upgraded is the upstream's side of the connection after status 101.
	Upgraded io.ReadWriteCloser

	overGRPC bool // Status is told as gRPC does, within one of 200
	ends     bool // the upstream takes no more of the request's body
}

// spoken is the status that goes out.
func (r *Response) spoken() int {
	if r.overGRPC {
		return http.StatusOK
	}
	return r.Status
}

// Exchange is one request with its response, as filters see it. It belongs to
// one goroutine.
type Exchange struct {
	Request  Request
	Response Response
	// Err is why there is no response from an endpoint; outbound filters see
	// it and the built-in one turns it into a problem.
	Err error

	// Received is when the request's header was complete.
	Received time.Time
	// Peer is who is connected, as the PROXY header tells it.
	Peer netip.AddrPort
	// Client is the address of the client, across regions.
	Client netip.Addr
	// RequestID identifies the request in every region.
	RequestID string
	// ProxiedFrom is the gateway of another region that passed the request
	// on, or "". Such a request is never passed on again.
	ProxiedFrom string
	// faults names the injected faults in whose scope the request is, in the
	// form of rpc.HeaderMark.
	faults string
	// Member is the verified token of the member, or nil.
	Member *token.Claims
	// Route of the path, or nil.
	Route *Route
	// Savers are the regions to pass the request on to, nearest first; none
	// in normal operation.
	Savers []string
	// AnsweredBy is the region whose APIs answered; this one if empty.
	AnsweredBy string
	// Attempts lists what was tried, for the client that asked to see it.
	Attempts []Attempt
	// Debug says that the client asked to see the attempts.
	Debug bool
	// CloseConnection makes the codec end the client's connection in the
	// orderly way of its protocol.
	CloseConnection bool

	chainState // what the filters keep between them

	ctx    context.Context
	conn   *edgeConn
	inside Header // what the API learns of the client
	body   *replayBody
	done   []func(*Exchange)

	guard    *guard         // counts the request; nil for none
	t        *transaction   // what it may use again; nil for none
	lifeline *wire.Lifeline // stands for ctx; may be nil
}

// Attempt is one try to have a request answered.
type Attempt struct {
	Server  string  `json:"server"`
	Region  string  `json:"region"`
	Outcome string  `json:"outcome"`
	Status  int     `json:"status,omitempty"`
	MS      float64 `json:"ms"`
}

// Context ends when the client goes away or the gateway ends. It carries the
// request's trace.
func (ex *Exchange) Context() context.Context {
	if ex.trace.remote.IsValid() { // it is not recorded, so that few ask
		ex.ctx, ex.trace.remote = trace.ContextWithRemoteSpanContext(ex.ctx, ex.trace.remote), trace.SpanContext{}
	}
	return ex.ctx
}

// insideHeader returns an empty header for what the API learns of the client.
func (ex *Exchange) insideHeader() Header {
	if ex.t == nil {
		return NewHeader()
	}
	ex.t.inside.Reset()
	return &ex.t.inside
}

// SetContext replaces the context, with a span for example.
func (ex *Exchange) SetContext(ctx context.Context) { ex.ctx = ctx }

// OnDone runs f after the last byte of the response, latest first.
func (ex *Exchange) OnDone(f func(*Exchange)) { ex.done = append(ex.done, f) }

func (ex *Exchange) finish() {
	ex.Response.close() // first: what served the request ends before the request
	ex.look()
	ex.letGo()
	for i := len(ex.done) - 1; i >= 0; i-- {
		ex.done[i](ex)
	}
}

// letGo gives the place among the VIP's requests back.
func (ex *Exchange) letGo() {
	if ex.guard != nil {
		ex.guard.Add(-1)
		ex.guard = nil
	}
}

// close lets go of whatever the response still holds of its server.
func (r *Response) close() {
	if r.Body != nil {
		_ = r.Body.Close()
	}
	if r.Upgraded != nil {
		_ = r.Upgraded.Close()
	}
}

// readiness is a body that knows whether a read of it would wait.
type readiness interface{ Ready() bool }

// waits says that the head should not wait for the body, which is not here yet:
// who follows a stream wants to know that it has begun. Of a body that does not
// know, one of unknown length is taken for a stream.
func (r *Response) waits() bool {
	if b, ok := r.Body.(readiness); ok {
		return !b.Ready()
	}
	return r.ContentLength < 0
}

// answerProblem replaces the response by an error's problem.
func (ex *Exchange) answerProblem(err error) {
	ex.Response.close()
	status := statusOf(err)
	if ex.asksGRPC() {
		ex.Response = grpcProblem(err, status, ex.codeOfGRPC(status))
		return
	}
	body := problemOf(outside(err))
	h := NewHeader("Content-Type", "application/json", "Cache-Control", "no-store")
	if status == http.StatusUnauthorized {
		h.Set("Www-Authenticate", `Bearer realm="flix"`)
	}
	ex.Response = Response{Status: status, Header: h, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body))}
}
