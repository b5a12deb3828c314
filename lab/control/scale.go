package control

import (
	"context"
	"net/http"
	"time"

	"github.com/flix-lab/flix/lab/autoscale"
	"github.com/flix-lab/flix/topology"
)

// ScaleEngine is the autoscaler.
type ScaleEngine interface {
	// Scale lists the services with their policies and loads.
	Scale(ctx context.Context) (Scale, error)
	// SetScale changes policies.
	SetScale(ctx context.Context, r ScaleRequest) (Scale, error)
}

// Scale is the JSON of "flix scale".
type Scale struct {
	Services []ScaleService `json:"services"`
	// IdleStopMS is how long nobody may ask for anything before the lab stops
	// by itself; 0 is never.
	IdleStopMS float64 `json:"idle_stop_ms"`
}

// ScaleService is a service in a region.
type ScaleService struct {
	Region string        `json:"region"`
	Role   topology.Role `json:"role"`
	// Declared by the topology, Instances there are now, Want as decided last.
	Declared  int `json:"declared"`
	Instances int `json:"instances"`
	Want      int `json:"want"`
	// Rate and Concurrency are of an instance, on average: requests per second,
	// and under way. Measured is false when there is nothing to go by.
	Rate        float64 `json:"rate"`
	Concurrency float64 `json:"concurrency"`
	Utilisation float64 `json:"utilisation"`
	Measured    bool    `json:"measured"`
	// Policy is nil where there is none.
	Policy *autoscale.Policy `json:"policy,omitempty"`
	// Reason of the last decision, and when the last change was.
	Reason  string     `json:"reason,omitempty"`
	Changed *time.Time `json:"changed,omitempty"`
}

// ScaleRequest changes policies: those of a role, in a region or in all.
type ScaleRequest struct {
	Region string        `json:"region,omitempty"`
	Role   topology.Role `json:"role,omitempty"`
	// Set are the fields to change; nil changes none.
	Set *ScaleChange `json:"set,omitempty"`
	// Remove drops the policies; what was added goes.
	Remove bool `json:"remove,omitempty"`
	// Pause or resume them.
	Pause  bool `json:"pause,omitempty"`
	Resume bool `json:"resume,omitempty"`
	// IdleStopMS sets when an idle lab stops; nil leaves that, 0 is never.
	IdleStopMS *float64 `json:"idle_stop_ms,omitempty"`
}

// ScaleChange is a change of a policy; nil fields stay as they are.
type ScaleChange struct {
	Min          *int                `json:"min,omitempty"`
	Max          *int                `json:"max,omitempty"`
	Metric       *string             `json:"metric,omitempty"`
	Target       *float64            `json:"target,omitempty"`
	UpCooldown   *time.Duration      `json:"up_cooldown,omitempty"`
	DownCooldown *time.Duration      `json:"down_cooldown,omitempty"`
	WarmUp       *time.Duration      `json:"warm_up,omitempty"`
	Predict      *time.Duration      `json:"predict,omitempty"`
	Schedule     *[]autoscale.Window `json:"schedule,omitempty"`
}

// Apply changes a policy.
func (c ScaleChange) Apply(p *autoscale.Policy) {
	set(&p.Min, c.Min)
	set(&p.Max, c.Max)
	set(&p.Metric, c.Metric)
	set(&p.Target, c.Target)
	set(&p.UpCooldown, c.UpCooldown)
	set(&p.DownCooldown, c.DownCooldown)
	set(&p.WarmUp, c.WarmUp)
	set(&p.Predict, c.Predict)
	set(&p.Schedule, c.Schedule)
	if c.Min != nil && c.Max == nil {
		p.Max = max(p.Max, p.Min)
	}
}

func set[T any](to *T, v *T) {
	if v != nil {
		*to = *v
	}
}

func scaleMux(m *http.ServeMux, e ScaleEngine) {
	m.HandleFunc("GET /v1/scale", get(e.Scale))
	m.HandleFunc("POST /v1/scale", call(e.SetScale))
}

// Scale lists the services with their policies and loads.
func (c *Client) Scale(ctx context.Context) (Scale, error) {
	return do[Scale](ctx, c, http.MethodGet, "/v1/scale", nil)
}

// SetScale changes policies.
func (c *Client) SetScale(ctx context.Context, r ScaleRequest) (Scale, error) {
	return do[Scale](ctx, c, http.MethodPost, "/v1/scale", r)
}
