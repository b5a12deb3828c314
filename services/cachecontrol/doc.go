// Package cachecontrol is the service that knows every appliance of Open
// Connect, its health, its routes and what it holds, and that plans what each
// one has to fill.
//
// An appliance keeps one stream to the cache control of its nearest healthy
// region, which alone gives it orders. Cache controls of different regions
// share what they know through the wide-column store, and every choice that
// two of them could make differently is a pure function of declared facts, so
// that they need no leader and no lock.
//
// It promises that a file leaves the origin once per region as long as nothing
// fails, whatever the order in which appliances and titles turn up. It never
// touches a title's bytes itself, and never orders what an appliance has not
// been assigned.
package cachecontrol
