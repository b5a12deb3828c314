package gateway

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/flix-lab/flix/services"
)

// Reasons of the gateway's own errors, each with a status of its own where the
// kind's is not what HTTP means.
const (
	// ReasonNoToken: the route needs a member token.
	ReasonNoToken = "no_token"
	// ReasonNoRoute: no API answers the path.
	ReasonNoRoute = "no_route"
	// ReasonNoServers: the API has no live instance.
	ReasonNoServers = "no_servers"
	// ReasonConnect: no instance took the connection.
	ReasonConnect = "connect_failed"
	// ReasonReset: the instance broke the connection off.
	ReasonReset = "connection_reset"
	// ReasonBadAnswer: what the instance sent is no answer of HTTP.
	ReasonBadAnswer = "bad_answer"
	// ReasonTimeout: no answer in time.
	ReasonTimeout = "timeout"
	// ReasonConcurrency: too many requests to the API already.
	ReasonConcurrency = "concurrency_limit"
	// ReasonTooLarge: the request's body is too long.
	ReasonTooLarge = "body_too_large"
	// ReasonSlowBody: the request's body does not arrive.
	ReasonSlowBody = "body_too_slow"
	// ReasonMalformed: what the client sent is no request of HTTP.
	ReasonMalformed = "malformed"
	// ReasonClientGone: the client went away.
	ReasonClientGone = "client_gone"
	// ReasonRateLimited: the client, the member or all of the route's users ask
	// too often.
	ReasonRateLimited = "rate_limited"
	// ReasonShed: the gateway or the API is overloaded, and the request matters
	// less than others.
	ReasonShed = "load_shed"
	// ReasonFilterConcurrency: too many requests are in one filter already.
	ReasonFilterConcurrency = "filter_concurrency"
	// ReasonPreflight: a page of that origin may not use the API.
	ReasonPreflight = "origin_not_allowed"
)

// statusClientGone is what nobody reads; the metrics show it.
const statusClientGone = 499

// statusByReason maps as Zuul 2 does: no connection and no server are 502, an
// answer that does not come, or breaks off before it began, is 504, and what
// is kept off an origin 503. An answer that is none is 502, by RFC 9110 section
// 15.6.3; Zuul has 500 for it.
var statusByReason = map[string]int{
	ReasonNoToken:           http.StatusUnauthorized,
	ReasonNoServers:         http.StatusBadGateway,
	ReasonConnect:           http.StatusBadGateway,
	ReasonReset:             http.StatusGatewayTimeout,
	ReasonBadAnswer:         http.StatusBadGateway,
	ReasonTimeout:           http.StatusGatewayTimeout,
	ReasonConcurrency:       http.StatusServiceUnavailable,
	ReasonTooLarge:          http.StatusRequestEntityTooLarge,
	ReasonSlowBody:          http.StatusRequestTimeout,
	ReasonMalformed:         http.StatusBadRequest,
	ReasonClientGone:        statusClientGone,
	ReasonRateLimited:       http.StatusTooManyRequests,
	ReasonShed:              http.StatusServiceUnavailable,
	ReasonFilterConcurrency: http.StatusServiceUnavailable,
	ReasonPreflight:         http.StatusForbidden,
}

func statusOf(err error) int {
	if s, ok := statusByReason[services.ReasonOf(err)]; ok {
		return s
	}
	return services.KindOf(err).HTTPStatus()
}

// outside is what a client is told of an error. Why a connection failed names
// addresses behind the edge: that is for the log.
func outside(err error) error {
	var e *services.Error
	if !errors.As(err, &e) || e.Err == nil {
		return err
	}
	switch e.Reason {
	case ReasonConnect, ReasonReset, ReasonBadAnswer, ReasonTimeout, ReasonSlowBody, ReasonClientGone:
		bare := *e
		bare.Err = nil
		return &bare
	}
	return err
}

// momentLater is when a client that met a full limit may come back: requests are
// over within a second, and Retry-After knows no shorter time.
const momentLater = time.Second

// mapError is the outbound filter that completes the problem which the client
// reads, and logs what failed here.
func (s *Server) mapError(ex *Exchange) error {
	h := ex.Response.Header
	if ex.retryAfter > 0 {
		// Rounded up: who comes back a moment early is refused again.
		h.Set("Retry-After", strconv.FormatInt(int64((ex.retryAfter+time.Second-1)/time.Second), 10))
	}
	if ex.authErr != nil && ex.Response.Status == http.StatusUnauthorized {
		// RFC 6750 section 3.1: a token that came and is not good.
		h.Set("Www-Authenticate", `Bearer realm="flix", error="invalid_token", error_description="`+services.ReasonOf(ex.authErr)+`"`)
	}
	if ex.Response.Status >= http.StatusInternalServerError {
		s.d.Tel.Log.Warn("request failed", "request", ex.RequestID, "trace", ex.TraceID(), "method", ex.Request.Method, "path", ex.Request.Path,
			"status", ex.Response.Status, "category", categorize(ex), "error", ex.Err, "passport", ex.Passport.Text(ex.Received, time.Now()))
	}
	return nil
}
