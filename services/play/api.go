// Package play is the API a client starts, follows and ends a play with. It
// composes the microservices: playback authorises, license issues, steering
// ranks appliances.
package play

import (
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/edge"
)

// Paths of the play API behind the gateway. All need a member token.
const (
	PathStart   = "/play/start"   // POST StartRequest: StartReply
	PathRenew   = "/play/renew"   // POST RenewRequest: StartReply with fresh appliances
	PathReport  = "/play/report"  // POST ReportRequest: 204
	PathSuspect = "/play/suspect" // POST SuspectRequest: 204; bytes of an appliance did not match

	// PathStock is where stock players find what they need of one play: the
	// files of Stock, below a token. None of them needs a member token.
	PathStock = "/play/stock/"
)

// StartRequest asks to play. Session is the client's idempotency key.
type StartRequest struct {
	Session string `json:"session_id" rule:"required;min=1;max=128" doc:"made by the client; the same again is the same play"`
	Title   string `json:"title_id" rule:"required;min=1;max=128"`
	Device  string `json:"device" rule:"optional;max=128" doc:"the kind of device: web, phone, tv; the token's if left out"`
	// Height is the resolution wanted, in lines; 0 is what the plan allows.
	Height int `json:"height,omitempty" rule:"optional;min=0;max=65536"`
}

// RenewRequest asks for other appliances when all failed, or a fresh licence.
type RenewRequest struct {
	Session string `json:"session_id" rule:"required;min=1;max=128"`
	Title   string `json:"title_id" rule:"required;min=1;max=128"`
	License string `json:"license" rule:"required;min=1;max=4096"`
	Device  string `json:"device,omitempty" rule:"optional;max=128" doc:"the kind of device that the play was started on; the token's if left out"`
	// Broken names appliances the client could not use.
	Broken []string `json:"broken,omitempty" rule:"optional;items=64;each=128"`
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
	// Stock is for players that know nothing of this API.
	Stock Stock `json:"stock"`
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
	// PlainURL is the same without TLS, for browsers on the lab's machine; empty
	// if the appliance has none. Pathway is what the manifests of Stock call it.
	PlainURL string `json:"plain_url,omitempty"`
	Pathway  string `json:"pathway"`
}

// Stock are paths on the API's host for stock players: manifests that name
// every appliance of the answer, and the steering server that they follow.
type Stock struct {
	DASH     string `json:"dash"`
	HLS      string `json:"hls"`
	Steering string `json:"steering"`
	// Events tells of every change of the order, as server-sent events.
	Events string `json:"events"`
}

// ReportRequest tells how a play goes.
type ReportRequest struct {
	Session   string  `json:"session_id" rule:"required;min=1;max=128"`
	Title     string  `json:"title_id" rule:"required;min=1;max=128"`
	Kind      string  `json:"kind" rule:"required;enum=start|progress|stop|error"`
	Sequence  uint64  `json:"sequence" rule:"optional;min=0;max=9007199254740991" doc:"from 1 on; rises by one with each report of a session, so that one sent twice counts once"`
	PositionS float64 `json:"position_s" rule:"optional;min=0;max=1000000"`
	Appliance string  `json:"appliance,omitempty" rule:"optional;max=128"`
	Bytes     uint64  `json:"bytes" rule:"optional;min=0;max=9007199254740991" doc:"received since the last report"`
	Rung      string  `json:"rung,omitempty" rule:"optional;max=128"`
	RebufferS float64 `json:"rebuffer_s,omitempty" rule:"optional;min=0;max=1000000" doc:"waited since the last report"`
	Error     string  `json:"error,omitempty" rule:"optional;max=1024"`
	License   string  `json:"license,omitempty" rule:"optional;max=4096" doc:"released on stop"`
	Device    string  `json:"device,omitempty" rule:"optional;max=128"`
}

// SuspectRequest says that a segment of a file did not match its checksum.
type SuspectRequest struct {
	Session   string `json:"session_id" rule:"required;min=1;max=128"`
	Title     string `json:"title_id" rule:"required;min=1;max=128"`
	Version   uint64 `json:"version" rule:"optional;min=0;max=9007199254740991"`
	Appliance string `json:"appliance" rule:"required;min=1;max=128"`
	Path      string `json:"path" rule:"required;min=1;max=128"`
}

// Operations describes the API.
func Operations() []edge.Operation {
	o := operations()
	return []edge.Operation{o.start, o.renew, o.report, o.suspect, o.dash, o.hls, o.steer, o.events}
}

type described struct {
	start, renew, report, suspect, dash, hls, steer, events edge.Operation
}

// docWait is of a manifest's parameter.
const docWait = "seconds that the steering server may keep the player's questions; with it a stock player hears of a change at once"

func operations() described {
	fails := []services.Kind{services.NotFound, services.Conflict}
	return described{
		start:   edge.Operation{Pattern: "POST " + PathStart, ID: "startPlay", Summary: "Permission, licence, streams and up to ten appliances to play a title", Body: StartRequest{}, Reply: StartReply{}, Member: true, Fails: fails},
		renew:   edge.Operation{Pattern: "POST " + PathRenew, ID: "renewPlay", Summary: "Other appliances, or a fresh licence, for a play under way", Body: RenewRequest{}, Reply: StartReply{}, Member: true, Fails: fails},
		report:  edge.Operation{Pattern: "POST " + PathReport, ID: "reportPlay", Summary: "How a play goes; a stop releases its licence", Body: ReportRequest{}, Member: true},
		suspect: edge.Operation{Pattern: "POST " + PathSuspect, ID: "suspectFile", Summary: "Bytes of an appliance did not match their checksum", Body: SuspectRequest{}, Member: true},
		dash:    stockOperation(fileDASH, "dashManifest", "The title for a stock DASH player, steered", typeDASH, hostsParam(), waitParam(docWait), baseParam(), segmentsParam()),
		hls:     stockOperation(fileHLS, "hlsPlaylist", "The title for a stock HLS player, steered", typeHLS, hostsParam(), waitParam(docWait)),
		steer:   stockOperation(fileSteering, "contentSteering", "The order of the appliances now, as ETSI TS 103 998 and HLS have it", "application/json", append(steerParams(), waitParam("seconds until the answer at the latest; of a player that says which pathway it uses it comes as soon as it should move or the order is another. Spaces come before it meanwhile"))...),
		events:  stockOperation(fileEvents, "contentSteeringEvents", "The order now and whenever it changes: server-sent events of the type steering, each a SteeringManifest", typeEvents, steerParams()...),
	}
}
