package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/gateway/wire"
)

// maxTries bounds the servers one request is tried on.
const maxTries = 3

// outcome of one try.
type outcome string

const (
	answered   outcome = "answered"
	faulty     outcome = "error"      // status 500: the server's own failure
	overloaded outcome = "overloaded" // status 503: the server took no work on
	refused    outcome = "connect"    // no connection, so nothing was sent
	broken     outcome = "reset"      // the connection broke before an answer
	malformed  outcome = "malformed"  // what came is no answer of HTTP
	late       outcome = "timeout"    // no answer in time
	gone       outcome = "client_gone"
)

// allOutcomes are all there are.
var allOutcomes = [...]outcome{answered, faulty, overloaded, refused, broken, malformed, late, gone}

// classify names what became of a try. client is the context of the request,
// status that of the answer.
func classify(client context.Context, status int, err error) outcome {
	switch {
	case err == nil && status == http.StatusServiceUnavailable:
		return overloaded
	case err == nil:
		return answered
	}
	var ce *wire.ConnectError
	switch {
	case client.Err() != nil:
		return gone
	case errors.As(err, &ce):
		return refused
	case errors.Is(err, wire.ErrDeadline):
		return late
	case noAnswer(err):
		return malformed
	}
	return broken
}

// noAnswer says that the server spoke, and what it said is no answer.
func noAnswer(err error) bool {
	var (
		bad    *wire.BadMessage
		text   textproto.ProtocolError
		stream streamError
	)
	switch {
	case errors.As(err, &bad), errors.As(err, &text):
		return true
	case errors.As(err, &stream): // a server's own reset has the cause that it came from the peer
		return stream.Code == codeProtocolError && (stream.Cause == nil || !strings.Contains(stream.Cause.Error(), "from peer"))
	}
	// Package net/http has words alone for the rest.
	return slices.ContainsFunc(wordsOfNoAnswer, func(words string) bool { return strings.Contains(err.Error(), words) })
}

var wordsOfNoAnswer = []string{"malformed", "looked like an HTTP/1.1 header", "header list larger than", "response headers exceeded", "connection error: "}

// streamError is what net/http lets its errors of a stream be read as.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

// Error implements error.
func (e streamError) Error() string { return "stream error" }

const codeProtocolError = 1 // RFC 9113 section 7

// retryable decides whether another server may be tried. Nothing was done
// where no connection was made or the server said 503, so any method may be
// repeated. After a reset, a timeout or an error of its own the server may have
// done the work: only an idempotent request is repeated. These are Zuul's rules,
// but for a reset, after which that repeats a POST too and may do its work twice.
func (o outcome) retryable(idempotent, replayable bool) bool {
	switch o {
	case refused, overloaded:
		return replayable
	case broken, malformed, late, faulty:
		return replayable && idempotent
	}
	return false
}

// idempotent says whether doing a request twice does no harm: by its method,
// or because the client gave it a key by which the API knows a repetition.
func idempotent(r *Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return true
	}
	return r.Header.Get("Idempotency-Key") != ""
}

// failureOf is the error a client gets when the last try ended so.
func failureOf(o outcome, what string, err error) error {
	e := &services.Error{Op: what, Kind: services.Unavailable, Err: err, Remedy: "try again in a moment"}
	switch o {
	case refused:
		e.Reason, e.Msg = ReasonConnect, "no server takes the connection"
	case late:
		e.Reason, e.Msg = ReasonTimeout, "no answer in time"
	case malformed:
		e.Reason, e.Msg, e.Remedy = ReasonBadAnswer, "the server's answer is not well-formed HTTP", "see the gateway's log for what is wrong with it"
	case gone:
		e.Reason, e.Msg = ReasonClientGone, "the client went away"
	default:
		e.Reason, e.Msg = ReasonReset, "the connection to the server broke"
	}
	return e
}
