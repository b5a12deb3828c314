// Package evcache is the zone-replicated cache: a client that writes to the
// memcached servers of every zone of a region and reads from its own zone
// first, an embedded memcached server, and cached copies of what stores answer.
//
// A key lies where the original Java client of EVCache puts it, and its value is
// stored as that client stores it, so that either reads what the other wrote:
// ketama over the original's node keys, its digests of long keys, its types and
// compression, its way to cut long values. What a zone did not take, and what
// other regions shall follow, is told as events without the value; Repairer and
// Relay follow them. Client.Warm fills a zone from a sibling, Client.Check
// compares them.
//
// The cache promises nothing but speed: an item may be missing, evicted or
// stale at any time, zones may differ for a while, and no write waits for
// more zones than its latch policy asks. The client never calls back into the
// store behind it: filling the cache is the work of its caller, or of Copies,
// through which roles read their stores.
package evcache
