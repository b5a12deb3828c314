// Package evcache is the zone-replicated cache: a client that writes to the
// memcached servers of every zone of a region and reads from its own zone
// first, an embedded memcached server, and cached copies of what stores answer.
//
// The cache promises nothing but speed: an item may be missing, evicted or
// stale at any time, zones may differ for a while, and no write waits for
// more zones than its latch policy asks. The client never calls back into the
// store behind it: filling the cache is the work of its caller, or of Copies,
// through which roles read their stores.
package evcache
