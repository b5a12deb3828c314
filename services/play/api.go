// Package play is the API a client starts, follows and ends a play with. It
// composes the microservices: playback authorises, license issues, steering
// ranks appliances.
package play

import "time"

// Paths of the play API behind the gateway. All need a member token.
const (
	PathStart   = "/play/start"   // POST StartRequest: StartReply
	PathRenew   = "/play/renew"   // POST RenewRequest: StartReply with fresh appliances
	PathReport  = "/play/report"  // POST ReportRequest: 204
	PathSuspect = "/play/suspect" // POST SuspectRequest: 204; bytes of an appliance did not match
)

// StartRequest asks to play. Session is the client's idempotency key.
type StartRequest struct {
	Session string `json:"session_id"`
	Title   string `json:"title_id"`
	Device  string `json:"device"`
	// Height is the resolution wanted, in lines; 0 is what the plan allows.
	Height int `json:"height,omitempty"`
}

// RenewRequest asks for other appliances when all failed, or a fresh licence.
type RenewRequest struct {
	Session string `json:"session_id"`
	Title   string `json:"title_id"`
	License string `json:"license"`
	// Broken names appliances the client could not use.
	Broken []string `json:"broken,omitempty"`
}

// StartReply is everything a client needs to stream.
type StartReply struct {
	Session        string    `json:"session_id"`
	Title          string    `json:"title_id"`
	Name           string    `json:"name"`
	Version        uint64    `json:"version"`
	License        string    `json:"license"`
	LicenseExpires time.Time `json:"license_expires"`
	DurationMS     uint64    `json:"duration_ms"`
	// PositionS is where the member left off, in seconds.
	PositionS float64 `json:"position_s"`
	// MaxHeight is the tallest rung the plan allows.
	MaxHeight int      `json:"max_height"`
	Streams   []Stream `json:"streams"`
	// IndexPath and IndexSHA256 name the title's media.Index; DASHPath and
	// HLSPath the manifests for stock players. All are relative to an
	// appliance's URL.
	IndexPath   string `json:"index_path"`
	IndexSHA256 []byte `json:"index_sha256"`
	DASHPath    string `json:"dash_path"`
	HLSPath     string `json:"hls_path"`
	// Appliances, best first, at most ten.
	Appliances []Appliance `json:"appliances"`
	// Region that answered, and the gateway.
	Region  string `json:"region"`
	Country string `json:"country"`
	// Stale says that some part came from a cache because a store was late.
	Stale   bool   `json:"stale,omitempty"`
	TraceID string `json:"trace_id"`
}

// Stream is one track the client may ask for.
type Stream struct {
	ID     string `json:"id"`
	Kind   string `json:"kind"`
	Path   string `json:"path"`
	Kbps   int    `json:"kbps"`
	Width  int    `json:"width,omitempty"`
	Height int    `json:"height,omitempty"`
	Codecs string `json:"codecs"`
}

// Appliance is a candidate to stream from.
type Appliance struct {
	Name string `json:"name"` // instance id
	Site string `json:"site"`
	Kind string `json:"kind"` // isp, exchange, origin
	// URL is signed, expires, ends in "/", and is the base of every path.
	URL  string `json:"url"`
	Rank int    `json:"rank"`
}

// ReportRequest tells how a play goes.
type ReportRequest struct {
	Session   string  `json:"session_id"`
	Title     string  `json:"title_id"`
	Kind      string  `json:"kind"` // start, progress, stop, error
	Sequence  uint64  `json:"sequence"`
	PositionS float64 `json:"position_s"`
	Appliance string  `json:"appliance,omitempty"`
	Bytes     uint64  `json:"bytes"`
	Rung      string  `json:"rung,omitempty"`
	RebufferS float64 `json:"rebuffer_s,omitempty"`
	Error     string  `json:"error,omitempty"`
	License   string  `json:"license,omitempty"` // released on stop
	Device    string  `json:"device,omitempty"`
}

// SuspectRequest says that a segment of a file did not match its checksum.
type SuspectRequest struct {
	Session   string `json:"session_id"`
	Title     string `json:"title_id"`
	Version   uint64 `json:"version"`
	Appliance string `json:"appliance"`
	Path      string `json:"path"`
}
