package control

import (
	"context"
	"net/http"
	"time"

	"github.com/flix-lab/flix/lab/fault"
)

// FaultEngine is what the daemon can do with faults.
type FaultEngine interface {
	Faults(ctx context.Context) (Faults, error)
	RunFault(ctx context.Context, r FaultRequest) (FaultStarted, error)
	StopFaults(ctx context.Context, r FaultStop) (FaultsStopped, error)
	FaultHistory(ctx context.Context) (FaultHistory, error)
	// NetworkFaults are those that reach clients, with addresses.
	NetworkFaults(ctx context.Context) ([]fault.Fault, error)
}

// FaultRequest asks for a fault; with DryRun only for its plan.
type FaultRequest struct {
	fault.Request
	DryRun bool `json:"dry_run,omitempty"`
}

// FaultStarted is the JSON of "flix chaos run".
type FaultStarted struct {
	fault.Fault
	// State is planned, active, or done for one that is over at once.
	State  string      `json:"state"`
	DryRun bool        `json:"dry_run"`
	Blast  fault.Blast `json:"blast_radius"`
	MS     float64     `json:"ms"`
}

// Faults is the JSON of "flix chaos ls".
type Faults struct {
	Active []ActiveFault `json:"active"`
	Kinds  []fault.Kind  `json:"kinds"`
}

// ActiveFault is a fault in force.
type ActiveFault struct {
	fault.Fault
	// RemainingS is what is left of its time, in seconds; 0 until it is stopped.
	RemainingS float64 `json:"remaining_s"`
}

// FaultStop names the faults to lift.
type FaultStop struct {
	IDs []string `json:"ids,omitempty"`
	All bool     `json:"all,omitempty"`
}

// FaultsStopped is the JSON of "flix chaos stop".
type FaultsStopped struct {
	Stopped []FaultEnded `json:"stopped"`
	// Notes say what was found that the caller may not expect.
	Notes []string `json:"notes,omitempty"`
}

// FaultHistory is the JSON of "flix chaos history".
type FaultHistory struct {
	Faults []FaultEnded `json:"faults"`
}

// FaultEnded is a fault that is over.
type FaultEnded struct {
	fault.Fault
	Ended time.Time `json:"ended"`
	// How is stopped, lapsed, done, lifted or failed.
	How string `json:"how"`
	// Note says what the undo found; "" when all is as before.
	Note string `json:"note,omitempty"`
}

func faultMux(m *http.ServeMux, e FaultEngine) {
	m.HandleFunc("GET /v1/faults", get(e.Faults))
	m.HandleFunc("POST /v1/faults", call(e.RunFault))
	m.HandleFunc("POST /v1/faults/stop", call(e.StopFaults))
	m.HandleFunc("GET /v1/faults/history", get(e.FaultHistory))
	m.HandleFunc("GET /v1/faults/network", get(e.NetworkFaults))
}

// Faults lists kinds and what is in force.
func (c *Client) Faults(ctx context.Context) (Faults, error) {
	return do[Faults](ctx, c, http.MethodGet, "/v1/faults", nil)
}

// RunFault begins a fault.
func (c *Client) RunFault(ctx context.Context, r FaultRequest) (FaultStarted, error) {
	return do[FaultStarted](ctx, c, http.MethodPost, "/v1/faults", r)
}

// StopFaults lifts faults; what is lifted is set beside an error too.
func (c *Client) StopFaults(ctx context.Context, r FaultStop) (FaultsStopped, error) {
	return do[FaultsStopped](ctx, c, http.MethodPost, "/v1/faults/stop", r)
}

// NetworkFaults are the faults of the network, for clients to feel.
func (c *Client) NetworkFaults(ctx context.Context) ([]fault.Fault, error) {
	return do[[]fault.Fault](ctx, c, http.MethodGet, "/v1/faults/network", nil)
}

// FaultHistory lists faults that are over, the oldest first.
func (c *Client) FaultHistory(ctx context.Context) (FaultHistory, error) {
	return do[FaultHistory](ctx, c, http.MethodGet, "/v1/faults/history", nil)
}
