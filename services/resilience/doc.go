// Package resilience wraps a call to a dependency as a command: bounded in
// time, bounded in number, cut off by a circuit breaker while the dependency
// fails, and answered by a fallback where there is one.
//
// It promises that a failing dependency costs its callers a bounded time and a
// bounded number of goroutines, and that an answer the caller will not like
// (Invalid, NotFound, Denied, Conflict) is still an answer: it never trips a
// breaker and never reaches a fallback. It never hides a failure: without a
// fallback the caller gets a services.Error that says which guard refused.
//
// Breaker and bulkhead are failsafe-go's. Their permits are taken and given
// back here rather than by failsafe's executor, because a command must return
// them when its function panics or its caller goes away, and because the path
// of success then costs one context and no further allocation.
package resilience
