package resilience

import "slices"

// event is something that happens to a call, by Hystrix's HystrixEventType.
// Those that only observable commands have (EMIT, FALLBACK_EMIT) never happen
// here; EXCEPTION_THROWN is the sum of the kinds that reach the caller.
type event int

const (
	success event = iota
	failure
	timedOut
	// badRequest is an error that is an answer: it says nothing of health.
	badRequest
	shortCircuited
	threadPoolRejected
	// semaphoreRejected by the bulkhead, or by the adaptive limit.
	semaphoreRejected
	fallbackSuccess
	fallbackFailure
	fallbackRejection
	fallbackDisabled
	fallbackMissing
	responseFromCache
	cancelled
	collapsed
	// retried and hedged are not of Hystrix.
	retried
	hedged
	events
)

var eventNames = [events]string{
	"success", "failure", "timeout", "bad_request", "short_circuited", "thread_pool_rejected", "semaphore_rejected",
	"fallback_success", "fallback_failure", "fallback_rejection", "fallback_disabled", "fallback_missing",
	"response_from_cache", "cancelled", "collapsed", "retried", "hedged",
}

func (e event) String() string { return eventNames[e] }

// Events lists the names of all events.
func Events() []string { return slices.Clone(eventNames[:]) }

// thrown are the events after which the caller gets an error.
var thrown = [...]event{badRequest, fallbackFailure, fallbackRejection, fallbackDisabled, fallbackMissing}
