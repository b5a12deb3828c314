// Package events holds the schemas of the stream pipeline, the producer and
// the consumer on Kafka's wire protocol, the embedded Kafka server, what stands
// beside a real one (Sidecar), and the copies that regions keep of one
// another's events (Replicate, TranslateOffsets, ReturnOffsets).
package events

import "time"

// The lab's topics.
const (
	// TopicPlayback carries PlaybackEvent, keyed by session id.
	TopicPlayback = "playback"
	// TopicTitles carries TitleEvent, keyed by title id.
	TopicTitles = "titles"
	// TopicFill carries FillEvent, keyed by appliance id.
	TopicFill = "fill"
	// TopicMembers carries MemberEvent, keyed by member id.
	TopicMembers = "members"
	// TopicCacheWrites carries CacheEvent, keyed by the canonical key: writes to
	// a region's cache that other regions shall follow.
	TopicCacheWrites = "cache-writes"
	// TopicCacheRepairs carries CacheEvent, keyed by the canonical key: writes
	// that a zone of a region's cache did not take.
	TopicCacheRepairs = "cache-repairs"
)

// Topics lists every topic with its number of partitions.
func Topics() map[string]int32 {
	return map[string]int32{TopicPlayback: 4, TopicTitles: 1, TopicFill: 1, TopicMembers: 1, TopicCacheWrites: 2, TopicCacheRepairs: 1}
}

// Header is common to all events.
type Header struct {
	// ID is the idempotency key: consumers drop one they have seen.
	ID string `json:"id"`
	// At is when it happened, by the producer's clock.
	At time.Time `json:"at"`
	// Region and Instance produced it.
	Region   string `json:"region"`
	Instance string `json:"instance"`
	TraceID  string `json:"trace_id,omitempty"`
}

// PlaybackEvent is a report of a player about its session.
type PlaybackEvent struct {
	Header
	// Kind is start, progress, stop or error.
	Kind      string  `json:"kind"`
	Session   string  `json:"session"`
	Sequence  uint64  `json:"sequence"`
	Member    string  `json:"member"`
	Title     string  `json:"title"`
	PositionS float64 `json:"position_s"`
	Appliance string  `json:"appliance,omitempty"`
	// Bytes received since the report before.
	Bytes     uint64  `json:"bytes"`
	Rung      string  `json:"rung,omitempty"`
	RebufferS float64 `json:"rebuffer_s,omitempty"`
	Error     string  `json:"error,omitempty"`
	ClientIP  string  `json:"client_ip,omitempty"`
	ISP       string  `json:"isp,omitempty"`
	Device    string  `json:"device,omitempty"`
	Country   string  `json:"country,omitempty"`
}

// TitleEvent says that a title changed state.
type TitleEvent struct {
	Header
	Kind    string `json:"kind"` // "published"
	Title   string `json:"title"`
	Version uint64 `json:"version"`
	Bytes   uint64 `json:"bytes"`
}

// FillEvent says that an appliance stored, lost or quarantined a file, or that
// the appliances of a site announce different prefixes.
type FillEvent struct {
	Header
	Kind      string `json:"kind"` // "stored", "removed", "failed", "uneven"
	Appliance string `json:"appliance"`
	Site      string `json:"site,omitempty"` // of "uneven"
	Title     string `json:"title"`
	Path      string `json:"path"`
	Bytes     uint64 `json:"bytes"`
	Source    string `json:"source,omitempty"` // "cache", "tier", "peer"
	Reason    string `json:"reason,omitempty"`
}

// MemberEvent says that a member signed up or in.
type MemberEvent struct {
	Header
	Kind   string `json:"kind"` // "signup", "signin"
	Member string `json:"member"`
	Plan   string `json:"plan,omitempty"`
}

// CacheEvent says that an item of the cache changed. It does not carry the
// value: whoever follows reads that from the cache, so that it is the latest.
type CacheEvent struct {
	Header
	Kind string `json:"kind"` // "set", "delete", "touch", "invalidate"
	// Key is the canonical one, "prefix:key".
	Key string `json:"key"`
	// Expires is when the item does; zero for never.
	Expires time.Time `json:"expires,omitzero"`
	// Zone is the one that did not take it, in a repair.
	Zone string `json:"zone,omitempty"`
}
