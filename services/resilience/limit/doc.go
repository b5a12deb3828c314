// Package limit bounds how many calls to a dependency are under way at once,
// by a limit that it finds itself: it measures how long calls take, lets more
// in while that does not grow and fewer as soon as it does.
//
// The algorithms are those of Netflix's concurrency-limits (Vegas, Gradient2,
// AIMD) with its figures, fed by windows of samples as its WindowedLimit does.
// Two things are different, because users of the original asked for them: a
// dropped call (a timeout, a refusal) always lowers the limit, Gradient2's too,
// which otherwise climbs while everything times out at the same time; and a
// limit may start at its maximum, so that a cold start sheds nothing.
//
// It promises that neither taking a place nor giving it back allocates or
// waits, and that the limit grows only while calls use at least half of it.
package limit
