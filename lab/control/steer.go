package control

import (
	"context"
	"net/http"
	"net/url"

	"github.com/flix-lab/flix/services/steering"
)

// Explained and WhatIf are steering's own; see package steering.
type (
	Explained = steering.Explained
	WhatIf    = steering.WhatIf
)

// SteeringEngine answers questions about steering.
type SteeringEngine interface {
	// Explain makes one decision and tells what it was made of.
	Explain(ctx context.Context, r SteerRequest) (Explained, error)
	// WhatIf compares a region's latest decisions with those without some sites.
	WhatIf(ctx context.Context, r SteerRequest) (WhatIf, error)
}

// SteerRequest is a question to a region's steering; "" takes the first region
// that answers.
type SteerRequest struct {
	Region string   `json:"region,omitempty"`
	IP     string   `json:"ip,omitempty"`
	Title  string   `json:"title,omitempty"`
	Lose   []string `json:"lose,omitempty"`
}

func (r SteerRequest) query() string {
	return url.Values{"region": {r.Region}, "ip": {r.IP}, "title": {r.Title}, "lose": r.Lose}.Encode()
}

func steerRequest(r *http.Request) SteerRequest {
	q := r.URL.Query()
	return SteerRequest{Region: q.Get("region"), IP: q.Get("ip"), Title: q.Get("title"), Lose: q["lose"]}
}

func steerMux(m *http.ServeMux, e SteeringEngine) {
	m.HandleFunc("GET /v1/steer/explain", func(w http.ResponseWriter, r *http.Request) {
		get(func(ctx context.Context) (Explained, error) { return e.Explain(ctx, steerRequest(r)) })(w, r)
	})
	m.HandleFunc("GET /v1/steer/whatif", func(w http.ResponseWriter, r *http.Request) {
		get(func(ctx context.Context) (WhatIf, error) { return e.WhatIf(ctx, steerRequest(r)) })(w, r)
	})
}

// Explain makes one steering decision and tells what it was made of.
func (c *Client) Explain(ctx context.Context, r SteerRequest) (Explained, error) {
	return do[Explained](ctx, c, http.MethodGet, "/v1/steer/explain?"+r.query(), nil)
}

// WhatIf compares a region's latest decisions with those without some sites.
func (c *Client) WhatIf(ctx context.Context, r SteerRequest) (WhatIf, error) {
	return do[WhatIf](ctx, c, http.MethodGet, "/v1/steer/whatif?"+r.query(), nil)
}
