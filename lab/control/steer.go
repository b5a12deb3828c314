package control

import (
	"context"
	"net/http"
	"net/url"

	"github.com/flix-lab/flix/oca"
	"github.com/flix-lab/flix/services/steering"
)

// Explained and WhatIf are steering's own; see package steering.
type (
	Explained = steering.Explained
	WhatIf    = steering.WhatIf
	Misses    = steering.Misses
	// BGPSession is an appliance's own; see package oca.
	BGPSession = oca.Session
)

// LoadRoutesRequest names a table of routes; no file takes the one in use away.
type LoadRoutesRequest struct {
	File string `json:"file"` // absolute
}

// LoadedRoutes is the JSON of "flix steer routes".
type LoadedRoutes struct {
	Routes int      `json:"routes"`
	Places []string `json:"places"` // sites and appliances
}

// SteeringEngine answers questions about steering.
type SteeringEngine interface {
	// Explain makes one decision and tells what it was made of.
	Explain(ctx context.Context, r SteerRequest) (Explained, error)
	// WhatIf compares a region's latest decisions with those without some sites.
	WhatIf(ctx context.Context, r SteerRequest) (WhatIf, error)
	// LoadRoutes gives every steering a table of routes from a file.
	LoadRoutes(ctx context.Context, r LoadRoutesRequest) (LoadedRoutes, error)
	// SteerMisses sums the misses of a region's steering, or of all.
	SteerMisses(ctx context.Context, region string) (Misses, error)
	// SteerSessions lists the appliances' BGP sessions.
	SteerSessions(ctx context.Context) (BGPSessions, error)
}

// BGPSessions is the JSON of "flix steer sessions".
type BGPSessions struct {
	Sessions []BGPSession `json:"sessions"`
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
	m.HandleFunc("POST /v1/steer/routes", call(e.LoadRoutes))
	m.HandleFunc("GET /v1/steer/sessions", get(e.SteerSessions))
	m.HandleFunc("GET /v1/steer/misses", func(w http.ResponseWriter, r *http.Request) {
		get(func(ctx context.Context) (Misses, error) { return e.SteerMisses(ctx, r.URL.Query().Get("region")) })(w, r)
	})
	m.HandleFunc("GET /v1/steer/whatif", func(w http.ResponseWriter, r *http.Request) {
		get(func(ctx context.Context) (WhatIf, error) { return e.WhatIf(ctx, steerRequest(r)) })(w, r)
	})
}

// LoadRoutes gives every steering a table of routes from a file.
func (c *Client) LoadRoutes(ctx context.Context, r LoadRoutesRequest) (LoadedRoutes, error) {
	return do[LoadedRoutes](ctx, c, http.MethodPost, "/v1/steer/routes", r)
}

// SteerMisses sums the misses of a region's steering, or of all.
func (c *Client) SteerMisses(ctx context.Context, region string) (Misses, error) {
	return do[Misses](ctx, c, http.MethodGet, "/v1/steer/misses?"+url.Values{"region": {region}}.Encode(), nil)
}

// SteerSessions lists the appliances' BGP sessions.
func (c *Client) SteerSessions(ctx context.Context) (BGPSessions, error) {
	return do[BGPSessions](ctx, c, http.MethodGet, "/v1/steer/sessions", nil)
}

// Explain makes one steering decision and tells what it was made of.
func (c *Client) Explain(ctx context.Context, r SteerRequest) (Explained, error) {
	return do[Explained](ctx, c, http.MethodGet, "/v1/steer/explain?"+r.query(), nil)
}

// WhatIf compares a region's latest decisions with those without some sites.
func (c *Client) WhatIf(ctx context.Context, r SteerRequest) (WhatIf, error) {
	return do[WhatIf](ctx, c, http.MethodGet, "/v1/steer/whatif?"+r.query(), nil)
}
