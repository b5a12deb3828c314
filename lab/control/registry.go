package control

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// RegistryList is the JSON of "flix registry ls".
type RegistryList struct {
	Instances  []RegistryEntry  `json:"instances"`
	Registries []RegistryServer `json:"registries"`
}

// RegistryEntry is an instance as a registry knows it.
type RegistryEntry struct {
	// ID is the instance's name in the lab, or whatever a client of its own
	// calls itself.
	ID       string `json:"id"`
	App      string `json:"app"`
	Region   string `json:"region"`
	Zone     string `json:"zone,omitempty"`
	VIP      string `json:"vip,omitempty"`
	Address  string `json:"address"`
	Status   string `json:"status"`
	Reported string `json:"reported"`
	// Override is the operator's word on the status, if there is one.
	Override string `json:"override,omitempty"`
	// SilentMS is the time since its last renewal, DurationMS how long its
	// lease lives without one.
	SilentMS   int64 `json:"silent_ms"`
	DurationMS int64 `json:"duration_ms"`
	Expired    bool  `json:"expired"`
	// Registry that says so.
	Registry string `json:"registry"`
}

// RegistryServer is one registry of a lab.
type RegistryServer struct {
	Name   string `json:"name"`
	Region string `json:"region"`
	// State is running, or down when it does not answer; Error says why.
	State     string `json:"state"`
	Error     string `json:"error,omitempty"`
	Instances int    `json:"instances"`
	// SelfPreservation explains why leases that ran out are or are not kept.
	SelfPreservation RegistryPreservation `json:"self_preservation"`
	Peers            []RegistryPeer       `json:"peers"`
}

// RegistryPreservation is how self-preservation stands.
type RegistryPreservation struct {
	Mode             string            `json:"mode"`
	Applies          bool              `json:"applies"`
	Preserving       bool              `json:"preserving"`
	Since            time.Time         `json:"since,omitzero"`
	Leases           int               `json:"leases"`
	Apps             map[string]string `json:"apps,omitempty"`
	Expired          int               `json:"expired"`
	MayEvict         int               `json:"may_evict"`
	Expected         int               `json:"expected_renews_per_minute"`
	Threshold        int               `json:"renews_threshold"`
	RenewsLastMinute int               `json:"renews_last_minute"`
	Why              string            `json:"why"`
}

// RegistryPeer is how replication to another registry of the region does.
type RegistryPeer struct {
	URL     string    `json:"url"`
	State   string    `json:"state"`
	Queued  int       `json:"queued"`
	Sent    uint64    `json:"sent"`
	Dropped uint64    `json:"dropped"`
	Error   string    `json:"error,omitempty"`
	Since   time.Time `json:"since,omitzero"`
}

// RegistryWhy is the JSON of "flix registry why": why an instance is or is not
// given work.
type RegistryWhy struct {
	ID     string `json:"id"`
	App    string `json:"app,omitempty"`
	Region string `json:"region"`
	Listed bool   `json:"listed"`
	Up     bool   `json:"up"`
	Status string `json:"status"`
	// State is the instance's as the lab's runtime has it; empty for one that
	// is not of the lab.
	State string `json:"state,omitempty"`
	// Rule that decided: reported, not_ready, override, scaling_group; for an
	// instance that is not listed: never_seen, cancelled, peer, evicted,
	// by_hand, or region_down when no registry of its region answers.
	Rule    string         `json:"rule"`
	Because []string       `json:"because"`
	Remedy  string         `json:"remedy,omitempty"`
	Entry   *RegistryEntry `json:"entry,omitempty"`
	LeftAt  time.Time      `json:"left_at,omitzero"`
	HeardAt time.Time      `json:"heard_at,omitzero"`
	// Registry that says so.
	Registry string `json:"registry,omitempty"`
}

// RegistryChange asks for a change of what a registry holds.
type RegistryChange struct {
	// Instance it is about.
	Instance string `json:"instance"`
	// Status to set, "clear" to take an override back, "evict" to end the
	// lease.
	Status string `json:"status"`
}

// RegistryPreserve sets self-preservation.
type RegistryPreserve struct {
	// Region, or every one where empty; App, or all where empty.
	Region string `json:"region,omitempty"`
	App    string `json:"app,omitempty"`
	// Mode is on, off or auto.
	Mode string `json:"mode"`
}

// RegistryRecord is an instance's whole record, as the registry's API has it.
type RegistryRecord map[string]any

// Registry is what the daemon can do with the lab's registries.
type Registry interface {
	RegistryList(ctx context.Context, region string) (RegistryList, error)
	RegistryRecord(ctx context.Context, instance string) (RegistryRecord, error)
	RegistryWhy(ctx context.Context, instance string) (RegistryWhy, error)
	RegistryChange(ctx context.Context, r RegistryChange) (RegistryWhy, error)
	RegistryPreserve(ctx context.Context, r RegistryPreserve) (RegistryList, error)
}

// registryRoutes adds the paths of the registry's verbs.
func registryRoutes(m *http.ServeMux, e Registry) {
	named := func(f func(context.Context, string) (any, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			get(func(ctx context.Context) (any, error) { return f(ctx, r.URL.Query().Get("name")) })(w, r)
		}
	}
	m.HandleFunc("GET /v1/registry", named(func(ctx context.Context, n string) (any, error) { return e.RegistryList(ctx, n) }))
	m.HandleFunc("GET /v1/registry/record", named(func(ctx context.Context, n string) (any, error) { return e.RegistryRecord(ctx, n) }))
	m.HandleFunc("GET /v1/registry/why", named(func(ctx context.Context, n string) (any, error) { return e.RegistryWhy(ctx, n) }))
	m.HandleFunc("POST /v1/registry", call(e.RegistryChange))
	m.HandleFunc("POST /v1/registry/preserve", call(e.RegistryPreserve))
}

// RegistryList asks what the registries of a region hold, or of all for "".
func (c *Client) RegistryList(ctx context.Context, region string) (RegistryList, error) {
	return do[RegistryList](ctx, c, http.MethodGet, "/v1/registry?name="+url.QueryEscape(region), nil)
}

// RegistryRecord asks for an instance's record.
func (c *Client) RegistryRecord(ctx context.Context, instance string) (RegistryRecord, error) {
	return do[RegistryRecord](ctx, c, http.MethodGet, "/v1/registry/record?name="+url.QueryEscape(instance), nil)
}

// RegistryWhy asks why an instance is or is not UP.
func (c *Client) RegistryWhy(ctx context.Context, instance string) (RegistryWhy, error) {
	return do[RegistryWhy](ctx, c, http.MethodGet, "/v1/registry/why?name="+url.QueryEscape(instance), nil)
}

// RegistryChange sets, clears or evicts.
func (c *Client) RegistryChange(ctx context.Context, r RegistryChange) (RegistryWhy, error) {
	return do[RegistryWhy](ctx, c, http.MethodPost, "/v1/registry", r)
}

// RegistryPreserve sets self-preservation.
func (c *Client) RegistryPreserve(ctx context.Context, r RegistryPreserve) (RegistryList, error) {
	return do[RegistryList](ctx, c, http.MethodPost, "/v1/registry/preserve", r)
}
