// Package resilience wraps a call to a dependency as a command, in the manner
// of Hystrix: bounded in time, bounded in number, cut off by a circuit breaker
// while the dependency fails, and answered by a chain of fallbacks (a stale
// copy, then something static) where there is one.
//
// It promises that a failing dependency costs its callers a bounded time and a
// bounded number of goroutines, and that an answer the caller will not like
// (Invalid, NotFound, Denied, Conflict) is still an answer: it never trips a
// breaker and never reaches a fallback. It never hides a failure: without a
// fallback the caller gets a services.Error that says which guard refused.
//
// Names, defaults and arithmetic are Hystrix's: see Property for the settings
// that change at run time, and Stream for the events its dashboards read. Two
// things differ. The breaker looks at every failure instead of twice a second,
// so it opens with the failure that makes the case; and it may let more than
// one probe through before it closes.
//
// The path of success is a few atomic additions and no allocation: breaker,
// bulkhead and windows are made for that here rather than taken from
// failsafe-go, whose policies lock, allocate an execution a call and cannot
// change their settings. What may cost more, the pool of DoApart, is
// failsafe-go's. A command's context makes its timer only when the function
// asks for it.
package resilience
