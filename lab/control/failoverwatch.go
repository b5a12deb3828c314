package control

import (
	"context"
	"net/http"
)

// WatchEngine watches regions and evacuates sick ones.
type WatchEngine interface {
	FailoverWatch(ctx context.Context) (FailoverWatch, error)
	SetFailoverWatch(ctx context.Context, r FailoverWatchRequest) (FailoverWatch, error)
	// Vitals are what every region shows of its health now.
	Vitals(ctx context.Context) ([]Vitals, error)
}

// FailoverWatch is the JSON of "flix failover watch status".
type FailoverWatch struct {
	On bool `json:"on"`
	// Regions as they were seen last; none while it is off.
	Regions []Symptom `json:"regions"`
}

// FailoverWatchRequest switches it on or off.
type FailoverWatchRequest struct {
	On bool `json:"on"`
}

// Vitals are what a region shows of its health at one look.
type Vitals struct {
	Region string `json:"region"`
	// Gateways and play APIs that answer, and what is missing of the region's
	// roles.
	Gateways int    `json:"gateways"`
	PlayAPIs int    `json:"play_apis"`
	Missing  string `json:"missing,omitempty"`
	// Counts of those that answer since they started: plays begun, requests answered, and
	// those of them that failed.
	Starts   float64 `json:"starts"`
	Answered float64 `json:"answered"`
	Failed   float64 `json:"failed"`
	// Plays are answers to clients that asked for a play to begin, PlaysFailed
	// those of them that failed.
	Plays       float64 `json:"plays"`
	PlaysFailed float64 `json:"plays_failed"`
	// Evacuated regions are nobody's worry.
	Evacuated bool `json:"evacuated"`
}

// Symptom is what is seen of a region over some looks.
type Symptom struct {
	Region string `json:"region"`
	// Text is "" for a region that is well.
	Text     string  `json:"symptom,omitempty"`
	ForS     float64 `json:"for_s"`
	Starts   float64 `json:"starts_per_second"`
	Forecast float64 `json:"forecast_per_second"`
	// Evacuate says that it is time to.
	Evacuate bool `json:"evacuate"`
}

func watchMux(m *http.ServeMux, e WatchEngine) {
	m.HandleFunc("GET /v1/failover/watch", get(e.FailoverWatch))
	m.HandleFunc("POST /v1/failover/watch", call(e.SetFailoverWatch))
	m.HandleFunc("GET /v1/failover/vitals", get(e.Vitals))
}

// FailoverWatch says whether regions are watched, and what is seen.
func (c *Client) FailoverWatch(ctx context.Context) (FailoverWatch, error) {
	return do[FailoverWatch](ctx, c, http.MethodGet, "/v1/failover/watch", nil)
}

// SetFailoverWatch switches the watch on or off.
func (c *Client) SetFailoverWatch(ctx context.Context, r FailoverWatchRequest) (FailoverWatch, error) {
	return do[FailoverWatch](ctx, c, http.MethodPost, "/v1/failover/watch", r)
}

// Vitals are what every region shows of its health now.
func (c *Client) Vitals(ctx context.Context) ([]Vitals, error) {
	return do[[]Vitals](ctx, c, http.MethodGet, "/v1/failover/vitals", nil)
}
