// Package embedded is the kv adapter on Pebble: one server per region behind
// kvpb.KV, and the client that makes it a kv.Store.
//
// A server keeps every cell under its namespace, partition and sort key,
// stamped with a hybrid logical clock and the region that wrote it. The later
// stamp wins, here and at every peer, so that the same mutation may arrive
// twice, late or out of order without harm. What a region writes goes into a
// log in the same store and from there, asynchronously, to each peer region
// over a stream; what a peer wrote is stored and not passed on. A peer that is
// new, that lost its disk, or that was away until the log was cut gets every
// cell first and then the log.
//
// An acknowledged write survives the death of the process. It may be lost with
// the machine, and, in a namespace that is not global, with the region's disk
// while it has not been replicated. The server never waits for a peer except
// to acknowledge a global write.
package embedded
