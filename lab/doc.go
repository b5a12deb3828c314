// Package lab builds, converges, watches and ends a lab: a small planet of
// regions on one machine. Each verb of the command line has its file here
// (up.go, down.go, play.go, failover.go, …); wiring.go and the files wiring_*.go
// are the one place that knows how the roles fit together.
//
// The daemon of a lab holds an Engine (type Lab) and serves it on a unix
// socket (package control). It holds intent: what is wanted, what was made
// (package journal), what happened (the event log). What serves viewers runs in
// the runtime's instances and outlives it.
package lab
