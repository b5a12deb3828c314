package control

import (
	"time"
)

// Trace is the spans of one play.
type Trace struct {
	ID    string `json:"trace_id"`
	Spans []Span `json:"spans"`
}

// Span is one operation of a trace.
type Span struct {
	TraceID       string            `json:"trace_id"`
	SpanID        string            `json:"span_id"`
	ParentID      string            `json:"parent_id,omitempty"`
	Name          string            `json:"name"`
	Kind          string            `json:"kind"`
	Instance      string            `json:"instance"`
	Region        string            `json:"region,omitempty"`
	StartUnixNano int64             `json:"start_unix_nano"`
	EndUnixNano   int64             `json:"end_unix_nano"`
	Error         string            `json:"error,omitempty"`
	Attributes    map[string]string `json:"attributes,omitempty"`
}

// Session is a playback session as the pipeline saw it last.
type Session struct {
	Session   string    `json:"session"`
	Title     string    `json:"title"`
	Member    string    `json:"member"`
	Region    string    `json:"region"`
	ISP       string    `json:"isp"`
	Appliance string    `json:"appliance"`
	Rung      string    `json:"rung"`
	PositionS float64   `json:"position_s"`
	State     string    `json:"state"`
	Bytes     uint64    `json:"bytes"`
	RebufferS float64   `json:"rebuffer_s"`
	Updated   time.Time `json:"updated"`
}
