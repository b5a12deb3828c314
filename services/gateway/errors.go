package gateway

import (
	"net/http"

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
)

// statusClientGone is what nobody reads; the metrics show it.
const statusClientGone = 499

var statusByReason = map[string]int{
	ReasonNoToken:     http.StatusUnauthorized,
	ReasonNoServers:   http.StatusBadGateway,
	ReasonConnect:     http.StatusBadGateway,
	ReasonReset:       http.StatusBadGateway,
	ReasonTimeout:     http.StatusGatewayTimeout,
	ReasonConcurrency: http.StatusServiceUnavailable,
	ReasonTooLarge:    http.StatusRequestEntityTooLarge,
	ReasonSlowBody:    http.StatusRequestTimeout,
	ReasonClientGone:  statusClientGone,
}

func statusOf(err error) int {
	if s, ok := statusByReason[services.ReasonOf(err)]; ok {
		return s
	}
	return services.KindOf(err).HTTPStatus()
}
