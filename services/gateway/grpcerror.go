package gateway

import (
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/flix-lab/flix/services"
)

// Codes of gRPC (google.golang.org/grpc/codes) that the gateway's own errors
// have.
const (
	grpcUnknown         = "2"
	grpcDeadlinePassed  = "4"
	grpcDenied          = "7"
	grpcUnimplemented   = "12"
	grpcInternal        = "13"
	grpcUnavailable     = "14"
	grpcUnauthenticated = "16"
)

// grpcCode is the code that a client of gRPC takes an HTTP status for, by
// gRPC's table "HTTP to gRPC Status Code Mapping": whether the gateway says it
// or the client works it out, the call ends with the same.
func grpcCode(status int) string {
	switch status {
	case http.StatusBadRequest:
		return grpcInternal
	case http.StatusUnauthorized:
		return grpcUnauthenticated
	case http.StatusForbidden:
		return grpcDenied
	case http.StatusNotFound:
		return grpcUnimplemented
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return grpcUnavailable
	}
	return grpcUnknown
}

// asksGRPC says that a client of gRPC waits for the answer. Another gateway
// that passes its client's call on reads statuses of HTTP: by them it decides
// whether to try elsewhere. gRPC-Web is not meant: its errors are in the body.
func (ex *Exchange) asksGRPC() bool {
	const name = "application/grpc"
	ct := ex.Request.Header.Get("Content-Type")
	if ex.ProxiedFrom != "" || len(ct) < len(name) || !strings.EqualFold(ct[:len(name)], name) {
		return false
	}
	return len(ct) == len(name) || ct[len(name)] == '+' || ct[len(name)] == ';'
}

// callsGRPC says that the request is a gRPC call, which HTTP/1.1 cannot carry.
func (ex *Exchange) callsGRPC() bool {
	return ex.Request.trailers && strings.HasPrefix(ex.Request.Header.Get("Content-Type"), "application/grpc")
}

// codeOfGRPC is grpcCode, but for a call whose own time is up: its server ends it,
// and whether that or the client's clock comes first must not matter.
func (ex *Exchange) codeOfGRPC(status int) string {
	if limit, ok := grpcTimeout(ex.Request.Header.Get("Grpc-Timeout")); ok && status == http.StatusGatewayTimeout && ex.now().Sub(ex.Received) >= limit {
		return grpcDeadlinePassed
	}
	return grpcCode(status)
}

// grpcTimeout reads how long a call may take, by gRPC's protocol: at most eight
// digits and a unit.
func grpcTimeout(h string) (time.Duration, bool) {
	if len(h) < 2 || len(h) > 9 {
		return 0, false
	}
	unit := time.Duration(0)
	switch h[len(h)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	default:
		return 0, false
	}
	n, ok := wholeNumber(h[:len(h)-1])
	if !ok || n > int64(math.MaxInt64/unit) {
		return 0, false
	}
	return time.Duration(n) * unit, true
}

// grpcProblem is an error as a gRPC server tells it: status 200, and what went
// wrong in the header, with no body after it ("Trailers-Only" in gRPC's
// protocol). The status of HTTP remains for metrics and logs.
func grpcProblem(err error, status int, code string) Response {
	p := services.ProblemOf(outside(err))
	text := p.Error
	if p.Remedy != "" {
		text += "; " + p.Remedy
	}
	return Response{Status: status, overGRPC: true, Header: NewHeader(
		"Content-Type", "application/grpc", "Grpc-Status", code, "Grpc-Message", grpcMessage(text), "Cache-Control", "no-store")}
}

// grpcMessage encodes a text as a header carries it: percent-encoded but for
// printable ASCII, by gRPC's protocol.
func grpcMessage(text string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c >= ' ' && c <= '~' && c != '%' {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}
