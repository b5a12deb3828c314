package services

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Kind classifies an error by what its receiver can do about it.
type Kind string

// The kinds. One table (Kind.HTTPStatus, Kind.GRPCCode, Kind.ExitCode) maps
// them to the edges.
const (
	Invalid     Kind = "invalid"     // the request is wrong: mend it
	NotFound    Kind = "not_found"   // no such thing
	Denied      Kind = "denied"      // not allowed for this caller
	Conflict    Kind = "conflict"    // the state does not permit it now
	Unavailable Kind = "unavailable" // a dependency is out of reach: try again
	Exhausted   Kind = "exhausted"   // a limit or budget is used up
	Internal    Kind = "internal"    // a bug, or a broken store
)

type kindRow struct {
	kind Kind
	http int
	grpc uint32 // google.golang.org/grpc/codes.Code
	exit int
}

var kindTable = []kindRow{
	{Invalid, http.StatusBadRequest, 3, 2},
	{NotFound, http.StatusNotFound, 5, 3},
	{Denied, http.StatusForbidden, 7, 4},
	{Conflict, http.StatusConflict, 9, 5},
	{Unavailable, http.StatusServiceUnavailable, 14, 6},
	{Exhausted, http.StatusTooManyRequests, 8, 7},
	{Internal, http.StatusInternalServerError, 13, 1},
}

func (k Kind) row() kindRow {
	for _, r := range kindTable {
		if r.kind == k {
			return r
		}
	}
	return kindTable[len(kindTable)-1]
}

// HTTPStatus is the status an HTTP edge answers with.
func (k Kind) HTTPStatus() int { return k.row().http }

// GRPCCode is the numeric gRPC status code.
func (k Kind) GRPCCode() uint32 { return k.row().grpc }

// ExitCode is the exit code of a command that fails with this kind.
func (k Kind) ExitCode() int { return k.row().exit }

// KindFromHTTP maps a status back to a kind; Internal if none fits.
func KindFromHTTP(status int) Kind {
	for _, r := range kindTable {
		if r.http == status {
			return r.kind
		}
	}
	switch status {
	case http.StatusUnauthorized:
		return Denied
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return Unavailable
	}
	if status >= 400 && status < 500 {
		return Invalid
	}
	return Internal
}

// KindFromGRPC maps a gRPC code back to a kind; Internal if none fits.
func KindFromGRPC(code uint32) Kind {
	for _, r := range kindTable {
		if r.grpc == code {
			return r.kind
		}
	}
	switch code {
	case 4, 1: // deadline exceeded, cancelled
		return Unavailable
	case 16: // unauthenticated
		return Denied
	case 6: // already exists
		return Conflict
	}
	return Internal
}

// Error is a failure with its kind, the operation that failed and, for the
// person at the edge, what to do next.
type Error struct {
	// Op is what failed, e.g. "playback.Start tt-harbor-lights".
	Op string
	// Kind classifies it.
	Kind Kind
	// Reason is a stable machine-readable cause within the kind, e.g.
	// "not_licensed_in_country"; may be empty.
	Reason string
	// Msg says why, in a sentence for a person.
	Msg string
	// Remedy says what to do next; may be empty.
	Remedy string
	// Err is the cause, if there is one.
	Err error
}

// Reasons that more than one place tests for.
const (
	ReasonNoTitle        = "no_such_title"
	ReasonNotLicensed    = "not_licensed_in_country"
	ReasonPlanDevice     = "plan_denies_device"
	ReasonPlanResolution = "plan_denies_resolution"
	ReasonPlanStreams    = "plan_stream_limit"
	ReasonUnknownISP     = "unknown_isp"
	ReasonNoLab          = "no_lab"
	ReasonNoReplica      = "no_replica"
	ReasonNotLive        = "title_not_live"
	ReasonPlayFailed     = "play_failed"
	ReasonNoFFmpeg       = "no_ffmpeg"
	ReasonDataLost       = "acknowledged_write_lost"
)

// Error prints "op: why: cause".
func (e *Error) Error() string {
	parts := make([]string, 0, 3)
	for _, p := range []string{e.Op, e.Msg} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}
	if len(parts) == 0 {
		return string(e.Kind)
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf builds an Error of a kind. The format does not take %w: set Err or
// use Wrap for a cause.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Msg: fmt.Sprintf(format, args...)}
}

// Wrap says which operation failed and keeps the cause's kind, reason and
// remedy. It returns nil for a nil error.
func Wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", op, err)
}

// WithRemedy sets what to do next.
func (e *Error) WithRemedy(format string, args ...any) *Error {
	e.Remedy = fmt.Sprintf(format, args...)
	return e
}

// WithReason sets the stable cause within the kind.
func (e *Error) WithReason(reason string) *Error {
	e.Reason = reason
	return e
}

// KindOf returns the kind of the first Error in the chain. A deadline or a
// cancellation without one is Unavailable, anything else Internal.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return Unavailable
	}
	return Internal
}

// ReasonOf returns the reason of the first Error in the chain, or "".
func ReasonOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

// Problem is the JSON body of an error answer at every HTTP edge.
type Problem struct {
	Kind   Kind   `json:"kind"`
	Reason string `json:"reason,omitempty"`
	// Error says what failed and why.
	Error string `json:"error"`
	// Remedy says what to do next.
	Remedy string `json:"remedy,omitempty"`
}

// ProblemOf renders an error for an HTTP edge.
func ProblemOf(err error) Problem {
	p := Problem{Kind: KindOf(err), Reason: ReasonOf(err), Error: err.Error()}
	var e *Error
	if errors.As(err, &e) {
		p.Remedy = e.Remedy
	}
	return p
}

// Err turns a received problem back into an error.
func (p Problem) Err() error {
	return &Error{Kind: p.Kind, Reason: p.Reason, Msg: p.Error, Remedy: p.Remedy}
}
