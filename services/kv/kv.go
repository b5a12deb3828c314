// Package kv is the port to the wide-column store: namespace → partition →
// sorted items, in the manner of Cassandra's partition and clustering keys.
//
// The store is eventually consistent between regions: a write is acknowledged
// by its own region (or, in a global namespace, once a second region has it)
// and reaches the others over the WAN; conflicting writes are resolved by the
// last hybrid-logical-clock time. Package embedded is the adapter on Pebble;
// kvtest is the contract every adapter passes.
package kv

import (
	"context"
	"time"
)

// Namespace is a set of partitions with one consistency choice.
type Namespace struct {
	Name string
	// Global acknowledges a write once a second region has it; otherwise the
	// loss of a region may lose what replication had not carried yet.
	Global bool
}

// The lab's namespaces.
var (
	// Assets holds published titles: partition "assets", sort = title id. Global:
	// a title that was announced must not vanish with a region.
	Assets = Namespace{Name: "assets", Global: true}
	// Appliances holds the last report of each appliance: partition
	// "appliances", sort = appliance id. Local: the next report replaces it.
	Appliances = Namespace{Name: "appliances"}
	// Bookmarks: partition = member id, sort = title id. Local: a lost position
	// costs a viewer seconds.
	Bookmarks = Namespace{Name: "bookmarks"}
	// Sessions: partition = member id, sort = session id; TTL'd. Local.
	Sessions = Namespace{Name: "sessions"}
	// FillRules holds what operators want of the fill: partition "rules", sort =
	// kind/scope/title. Global: a pause must not be forgotten with a region.
	FillRules = Namespace{Name: "fill_rules", Global: true}
	// Popularity: partition = region, sort = title id. Local.
	Popularity = Namespace{Name: "popularity"}
	// Rows holds recommendation rows: partition = member id. Local.
	Rows = Namespace{Name: "rows"}
	// Jobs holds transcode jobs: partition "jobs", sort = job id. Global.
	Jobs = Namespace{Name: "jobs", Global: true}
	// Probe holds what replication probes write. Local.
	Probe = Namespace{Name: "probe"}
	// ProbeGlobal is Probe with the promise of a global namespace.
	ProbeGlobal = Namespace{Name: "probe_global", Global: true}
)

// Item is one cell of a partition.
type Item struct {
	Sort  string
	Value []byte
	// TTL after which the item vanishes; zero keeps it. Only read on writes.
	TTL time.Duration
	// Written is when the item was written (the physical part of its clock);
	// set on reads.
	Written time.Time
	// Region the item was written in; set on reads.
	Region string
}

// Range selects items of a partition by their sort key.
type Range struct {
	From, To string // From inclusive, To exclusive; empty To: to the end
	Limit    int    // 0: the adapter's page size, at most 1000
	Reverse  bool
	Page     string // token of the page before; "" for the first
}

// Condition makes a write a lightweight transaction on one item: exact inside
// the region, never across regions.
type Condition struct {
	Sort string
	// Absent asks that there is no such item; otherwise Equals must match.
	Absent bool
	Equals []byte
}

// Store is a client of one region's store. All methods are safe for
// concurrent use; reads and writes are idempotent, so callers may retry them.
// They fail with services.Unavailable when the store is out of reach.
type Store interface {
	// Get returns one item, or services.NotFound.
	Get(ctx context.Context, ns Namespace, partition, sort string) (Item, error)
	// Query returns a page of items in sort order and the token of the next
	// page, "" at the end.
	Query(ctx context.Context, ns Namespace, partition string, r Range) ([]Item, string, error)
	// Put writes items of one partition, all or none.
	Put(ctx context.Context, ns Namespace, partition string, items ...Item) error
	// PutIf writes them if the condition holds; services.Conflict if not.
	PutIf(ctx context.Context, ns Namespace, partition string, cond Condition, items ...Item) error
	// Delete removes items; deleting what is not there is no error.
	Delete(ctx context.Context, ns Namespace, partition string, sorts ...string) error
	// Close releases the client's connections.
	Close() error
}
