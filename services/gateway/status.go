package gateway

import (
	"net/http"

	"github.com/flix-lab/flix/services"
)

// Category says how a request ended in the gateway's eyes, which a status
// alone does not: a 503 may be an origin's, the gateway's own limit, or load
// that was shed. Names and ids are those of Zuul 2
// (com.netflix.zuul.stats.status.ZuulStatusCategory); the ones that it does
// not have use ids it leaves free.
type Category uint8

// The categories.
const (
	categoryNone Category = iota
	Success
	SuccessNotFound
	SuccessLocalNoRoute
	FailureLocal
	FailureLocalThrottledConcurrency
	FailureLocalThrottledRate
	FailureLocalThrottledShed
	FailureLocalThrottledFilter
	FailureClientBadRequest
	FailureClientCancelled
	FailureClientTimeout
	FailureClientDenied
	FailureOrigin
	FailureOriginReadTimeout
	FailureOriginConnectivity
	FailureOriginThrottled
	FailureOriginNoServers
	FailureOriginReset
	categories // how many there are
)

var categoryNames = [categories]struct{ name, id string }{
	categoryNone:                     {"SUCCESS_LOCAL_NOTSET", "1_4"},
	Success:                          {"SUCCESS", "1_1"},
	SuccessNotFound:                  {"SUCCESS_NOT_FOUND", "1_3"},
	SuccessLocalNoRoute:              {"SUCCESS_LOCAL_NO_ROUTE", "1_5"},
	FailureLocal:                     {"FAILURE_LOCAL", "2_1"},
	FailureLocalThrottledConcurrency: {"FAILURE_LOCAL_THROTTLED_ORIGIN_CONCURRENCY", "2_8"},
	FailureLocalThrottledRate:        {"FAILURE_LOCAL_THROTTLED_RATE", "2_20"},
	FailureLocalThrottledShed:        {"FAILURE_LOCAL_THROTTLED_LOAD_SHED", "2_21"},
	FailureLocalThrottledFilter:      {"FAILURE_LOCAL_THROTTLED_FILTER_CONCURRENCY", "2_22"},
	FailureClientBadRequest:          {"FAILURE_CLIENT_BAD_REQUEST", "2_12"},
	FailureClientCancelled:           {"FAILURE_CLIENT_CANCELLED", "2_13"},
	FailureClientTimeout:             {"FAILURE_CLIENT_TIMEOUT", "2_18"},
	FailureClientDenied:              {"FAILURE_CLIENT_DENIED", "2_23"},
	FailureOrigin:                    {"FAILURE_ORIGIN", "2_2"},
	FailureOriginReadTimeout:         {"FAILURE_ORIGIN_READ_TIMEOUT", "2_3"},
	FailureOriginConnectivity:        {"FAILURE_ORIGIN_CONNECTIVITY", "2_4"},
	FailureOriginThrottled:           {"FAILURE_ORIGIN_THROTTLED", "2_6"},
	FailureOriginNoServers:           {"FAILURE_ORIGIN_NO_SERVERS", "2_14"},
	FailureOriginReset:               {"FAILURE_ORIGIN_RESET_CONNECTION", "2_15"},
}

// String is the category's name.
func (c Category) String() string {
	if c < categories {
		return categoryNames[c].name
	}
	return "UNKNOWN"
}

// ID is Zuul's number of the category: group_index.
func (c Category) ID() string {
	if c < categories {
		return categoryNames[c].id
	}
	return "0_0"
}

var categoryByReason = map[string]Category{
	ReasonNoToken:           FailureClientDenied,
	ReasonNoRoute:           SuccessLocalNoRoute,
	ReasonNoServers:         FailureOriginNoServers,
	ReasonConnect:           FailureOriginConnectivity,
	ReasonReset:             FailureOriginReset,
	ReasonBadAnswer:         FailureOrigin,
	ReasonTimeout:           FailureOriginReadTimeout,
	ReasonConcurrency:       FailureLocalThrottledConcurrency,
	ReasonTooLarge:          FailureClientBadRequest,
	ReasonSlowBody:          FailureClientTimeout,
	ReasonMalformed:         FailureClientBadRequest,
	ReasonClientGone:        FailureClientCancelled,
	ReasonRateLimited:       FailureLocalThrottledRate,
	ReasonShed:              FailureLocalThrottledShed,
	ReasonFilterConcurrency: FailureLocalThrottledFilter,
	ReasonPreflight:         FailureClientDenied,
}

// categorize tells the category of a finished exchange.
func categorize(ex *Exchange) Category {
	if ex.Err != nil {
		if c, ok := categoryByReason[services.ReasonOf(ex.Err)]; ok {
			return c
		}
		switch services.KindOf(ex.Err) {
		case services.Invalid:
			return FailureClientBadRequest
		case services.Denied:
			return FailureClientDenied
		}
		return FailureLocal
	}
	switch status := ex.Response.Status; {
	case status == http.StatusNotFound:
		return SuccessNotFound
	case status == http.StatusServiceUnavailable:
		return FailureOriginThrottled
	case status >= http.StatusInternalServerError:
		return FailureOrigin
	}
	return Success
}

// categorizeRequest is the outbound filter that decides the category.
func (s *Server) categorizeRequest(ex *Exchange) error {
	ex.Category = categorize(ex)
	s.metrics.categories[ex.Category].Inc()
	return nil
}
