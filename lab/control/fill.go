package control

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

// FillEngine plans, steers and explains the fill.
type FillEngine interface {
	FillStatus(ctx context.Context) (FillStatus, error)
	FillRun(ctx context.Context, r FillRunRequest) (FillRunResult, error)
	// FillPlan says what would move, from where and how long it takes.
	FillPlan(ctx context.Context, r FillPlanRequest) (FillPlan, error)
	// FillExplain says why a title is or is not on an appliance.
	FillExplain(ctx context.Context, r FillExplainRequest) (FillExplained, error)
	// SetFillRule sets or ends a rule; the answer is the rules then in force.
	SetFillRule(ctx context.Context, r FillRule) (FillRules, error)
}

// FillTime is how long what is missing takes.
type FillTime struct {
	MissingBytes uint64 `json:"missing_bytes"`
	// OriginBytes of them have to come from the object stores.
	OriginBytes uint64 `json:"origin_bytes"`
	// RateBPS is what came of late, in bits per second.
	RateBPS uint64 `json:"rate_bps"`
	// ETAMS is how long the rest takes at that rate, or at the lines' speed when
	// nothing has come yet; -1 when it does not come as things are.
	ETAMS int64 `json:"eta_ms"`
	// BoundMS is the computed lower bound: no plan is faster. BoundBy says what
	// bounds it.
	BoundMS int64  `json:"bound_ms"`
	BoundBy string `json:"bound_by,omitempty"`
}

// FillRule is what an operator wants beyond what popularity says.
type FillRule struct {
	Kind  string `json:"kind"`            // pause, pin or urgent
	Scope string `json:"scope"`           // an appliance, site or region; "" is the lab
	Title string `json:"title,omitempty"` // id, of pin and urgent
	// Active is false in a request that ends the rule.
	Active bool   `json:"active"`
	Since  string `json:"since,omitempty"` // RFC 3339
}

// FillRules are the rules in force.
type FillRules struct {
	Rules []FillRule `json:"rules"`
}

// FillPlanRequest asks for the moves of a scope and title; "" is all.
type FillPlanRequest struct {
	Scope string `json:"scope,omitempty"`
	Title string `json:"title,omitempty"`
	// Limit of the moves listed; 0 is 1000.
	Limit int `json:"limit,omitempty"`
}

// FillPlan is the JSON of "flix fill plan".
type FillPlan struct {
	FillTime
	Appliances []FillPlanAppliance `json:"appliances"`
	Moves      []FillMove          `json:"moves"`
	// LeftOff counts the moves beyond the limit.
	LeftOff int             `json:"left_off"`
	Sites   []SitePlacement `json:"sites"`
}

// FillPlanAppliance sums up what an appliance lacks.
type FillPlanAppliance struct {
	FillTime
	Name     string `json:"name"`
	Region   string `json:"region"`
	Site     string `json:"site"`
	Kind     string `json:"kind"`
	Missing  int    `json:"missing"` // files
	InFlight int    `json:"in_flight"`
	// Blocked says why nothing is ordered now.
	Blocked string `json:"blocked,omitempty"`
	// RemovableBytes are stored and not assigned.
	RemovableBytes uint64 `json:"removable_bytes"`
}

// FillMove is one file on its way to an appliance, or to be.
type FillMove struct {
	Appliance string `json:"appliance"`
	Title     string `json:"title"`
	Version   uint64 `json:"version"`
	Path      string `json:"path"`
	Bytes     uint64 `json:"bytes"`
	State     string `json:"state"`  // in_flight, ready, waiting or blocked
	Source    string `json:"source"` // cache (S3), tier or peer
	// From is the appliance, or "origin/REGION"; of a waiting one whom it
	// waits for.
	From string `json:"from"`
	Why  string `json:"why,omitempty"`
}

// SitePlacement is how a site's titles lie on its appliances.
type SitePlacement struct {
	Site       string `json:"site"`
	Region     string `json:"region"`
	Appliances int    `json:"appliances"`
	Titles     int    `json:"titles"`
	Unplaced   int    `json:"unplaced"`
	// Popular titles are above the cut-off, spread by bandwidth, the others by
	// storage. CutOff is the popularity of the last of them.
	Popular       int     `json:"popular"`
	CutOff        float64 `json:"cut_off"`
	PopularBytes  uint64  `json:"popular_bytes"`
	StoredBytes   uint64  `json:"stored_bytes"` // all copies
	CapacityBytes uint64  `json:"capacity_bytes"`
	// Imbalance is the load of the busiest appliance ÷ its share by bandwidth.
	Imbalance float64 `json:"imbalance"`
}

// FillExplainRequest names a title and an appliance.
type FillExplainRequest struct {
	Title     string `json:"title"`
	Appliance string `json:"appliance"`
}

// FillExplained is the JSON of "flix fill explain".
type FillExplained struct {
	Title     string `json:"title"`
	Name      string `json:"name"`
	Version   uint64 `json:"version"`
	Appliance string `json:"appliance"`
	Region    string `json:"region"`
	Site      string `json:"site"`
	// State is held, filling, waiting, blocked or not_assigned, Why one sentence
	// on it.
	State  string          `json:"state"`
	Why    string          `json:"why"`
	Checks []FillCheck     `json:"checks"`
	Files  []ExplainedFile `json:"files"`
	// Planner is the cache control that answered, Own whether it is the one that
	// plans for the appliance.
	Planner   string        `json:"planner"`
	Own       bool          `json:"own"`
	Placement SitePlacement `json:"placement"`
}

// FillCheck speaks for or against a title being on an appliance.
type FillCheck struct {
	// Check is popularity, rank, cut_off, capacity, placement, pin, window,
	// pause, liveness or appliance.
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	Text  string `json:"text"`
}

// ExplainedFile is where a file of a title came or would come from.
type ExplainedFile struct {
	Path   string `json:"path"`
	Bytes  uint64 `json:"bytes"`
	State  string `json:"state"` // held, in_flight, ready, waiting, blocked, not_assigned
	Source string `json:"source,omitempty"`
	From   string `json:"from,omitempty"`
	Why    string `json:"why,omitempty"`
}

func fillMux(m *http.ServeMux, e FillEngine) {
	m.HandleFunc("GET /v1/fill", get(e.FillStatus))
	m.HandleFunc("POST /v1/fill", call(e.FillRun))
	m.HandleFunc("POST /v1/fill/rules", call(e.SetFillRule))
	m.HandleFunc("GET /v1/fill/plan", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		limit, _ := strconv.Atoi(q.Get("limit")) // 0, the default, if it is none
		get(func(ctx context.Context) (FillPlan, error) {
			return e.FillPlan(ctx, FillPlanRequest{Scope: q.Get("scope"), Title: q.Get("title"), Limit: limit})
		})(w, r)
	})
	m.HandleFunc("GET /v1/fill/explain", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		get(func(ctx context.Context) (FillExplained, error) {
			return e.FillExplain(ctx, FillExplainRequest{Title: q.Get("title"), Appliance: q.Get("appliance")})
		})(w, r)
	})
}

// FillStatus of every appliance.
func (c *Client) FillStatus(ctx context.Context) (FillStatus, error) {
	return do[FillStatus](ctx, c, http.MethodGet, "/v1/fill", nil)
}

// FillRun starts fills.
func (c *Client) FillRun(ctx context.Context, r FillRunRequest) (FillRunResult, error) {
	return do[FillRunResult](ctx, c, http.MethodPost, "/v1/fill", r)
}

// FillPlan says what would move.
func (c *Client) FillPlan(ctx context.Context, r FillPlanRequest) (FillPlan, error) {
	q := url.Values{"scope": {r.Scope}, "title": {r.Title}, "limit": {strconv.Itoa(r.Limit)}}
	return do[FillPlan](ctx, c, http.MethodGet, "/v1/fill/plan?"+q.Encode(), nil)
}

// FillExplain says why a title is or is not on an appliance.
func (c *Client) FillExplain(ctx context.Context, r FillExplainRequest) (FillExplained, error) {
	q := url.Values{"title": {r.Title}, "appliance": {r.Appliance}}
	return do[FillExplained](ctx, c, http.MethodGet, "/v1/fill/explain?"+q.Encode(), nil)
}

// SetFillRule sets or ends a rule.
func (c *Client) SetFillRule(ctx context.Context, r FillRule) (FillRules, error) {
	return do[FillRules](ctx, c, http.MethodPost, "/v1/fill/rules", r)
}
