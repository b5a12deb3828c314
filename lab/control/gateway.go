package control

import (
	"context"
	"net/http"
	"time"

	"github.com/flix-lab/flix/services/gateway"
)

// Route is one route of the gateways' table; its JSON is that of the property
// gateway.routes.
type Route = gateway.Route

// Limits are the rates of a route.
type Limits = gateway.Limits

// GatewayEngine is what the daemon can do to the gateways.
type GatewayEngine interface {
	// Routes tells the table that is wanted and what each gateway follows.
	Routes(ctx context.Context) (Routes, error)
	// ChangeRoutes makes a new version of the table and returns when every
	// gateway that runs follows it. A table that a gateway refuses is taken
	// back.
	ChangeRoutes(ctx context.Context, r RouteChange) (Routes, error)
	RouteHistory(ctx context.Context) (RouteHistory, error)
	Filters(ctx context.Context, region string) (Filters, error)
	ChangeFilter(ctx context.Context, r FilterChange) (Filters, error)
	// Squeeze shifts a growing share of a VIP's traffic to one instance until
	// that is saturated, and restores the shares whatever happens.
	Squeeze(ctx context.Context, r SqueezeRequest, p Progress) (SqueezeResult, error)
	// StopSqueeze ends the squeeze test that runs, if one does; its caller gets
	// what it has found so far.
	StopSqueeze(ctx context.Context, r struct{}) (struct{}, error)
	DebugToken(ctx context.Context, r DebugRequest) (DebugToken, error)
}

// Routes is the JSON of "flix gateway routes ls", "set", "rm" and "rollback".
type Routes struct {
	// Version of the table; 0 is the built-in one.
	Version int       `json:"version"`
	At      time.Time `json:"at,omitzero"`
	Note    string    `json:"note,omitempty"`
	// Changes of the last version: "+ name", "~ name" or "- name".
	Changes []string `json:"changes"`
	// Routes in the order they are tried.
	Routes []Route `json:"routes"`
	// Gateways that should follow the table; in the answer to a dry run the one
	// in force.
	Gateways []GatewayState `json:"gateways"`
}

// GatewayState is how far a gateway is.
type GatewayState struct {
	Gateway string `json:"gateway"`
	Region  string `json:"region"`
	// Version that it follows.
	Version int `json:"version"`
	// State is current, behind, refused or down. One that is down, or does
	// not answer, gets the table when it starts.
	State string `json:"state"`
	Error string `json:"error,omitempty"`
}

// RouteChange is a change of the table. Exactly one of Set, Replace, Remove
// and Rollback is given.
type RouteChange struct {
	// Set adds routes, or replaces those of the same names.
	Set []Route `json:"set,omitempty"`
	// Replace is a whole table.
	Replace []Route `json:"replace,omitempty"`
	// Remove names routes.
	Remove []string `json:"remove,omitempty"`
	// Rollback makes an earlier version the table again; -1 is the one before
	// the current.
	Rollback *int `json:"rollback,omitempty"`
	// Inherit lets a new route ask for a member's token where the route that
	// its path leads to now does.
	Inherit bool `json:"inherit,omitempty"`
	// IfVersion refuses the change when the table has another version; nil is
	// any.
	IfVersion *int   `json:"if_version,omitempty"`
	Note      string `json:"note,omitempty"`
	DryRun    bool   `json:"dry_run,omitempty"`
}

// RouteHistory is the JSON of "flix gateway routes history", the oldest version
// first.
type RouteHistory struct {
	Versions []RouteVersion `json:"versions"`
}

// RouteVersion is one version of the table.
type RouteVersion struct {
	Version int       `json:"version"`
	At      time.Time `json:"at,omitzero"`
	Note    string    `json:"note,omitempty"`
	Changes []string  `json:"changes"`
	Current bool      `json:"current"`
	Routes  []Route   `json:"routes"`
}

// Filters is the JSON of "flix gateway filters ls", "on", "off" and "set".
type Filters struct {
	Filters []Filter `json:"filters"`
	// Unreachable gateways are not among the figures.
	Unreachable []string `json:"unreachable,omitempty"`
}

// Filter is a filter over all gateways that were asked.
type Filter struct {
	gateway.FilterStatus
	// Gateways that have it, and those of them where it is switched on.
	Gateways  int `json:"gateways"`
	EnabledOn int `json:"enabled_on"`
}

// FilterChange changes properties of one filter.
type FilterChange struct {
	Filter string `json:"filter"`
	// Region whose gateways are changed; "" is all.
	Region string `json:"region,omitempty"`
	// Options by name; "" is the default. "disable" and "concurrency" are
	// options of every filter.
	Options map[string]string `json:"options"`
}

// SqueezeRequest asks for a squeeze test.
type SqueezeRequest struct {
	VIP      string `json:"vip"`
	Instance string `json:"instance"`
	// P99MS and ErrorRatio are where the instance counts as saturated; 0 is no
	// limit.
	P99MS      float64 `json:"p99_ms,omitempty"`
	ErrorRatio float64 `json:"error_ratio,omitempty"`
	// StepMS is how long each share lasts, Growth by what it grows, MaxShare
	// where it ends.
	StepMS   float64 `json:"step_ms"`
	Growth   float64 `json:"growth"`
	MaxShare float64 `json:"max_share"`
	// MinRequests of the instance make a step's figures count; a step lasts up
	// to five times as long to get them.
	MinRequests int64 `json:"min_requests"`
}

// SqueezeResult is the JSON of "flix gateway squeeze".
type SqueezeResult struct {
	VIP      string `json:"vip"`
	Instance string `json:"instance"`
	Region   string `json:"region"`
	// Until are the limits that were asked for.
	Until SqueezeLimits `json:"until"`
	Steps []SqueezeStep `json:"steps"`
	// Saturated says that a limit was reached; Reason is p99 or errors then.
	// Else the instance took all the traffic there was.
	Saturated bool   `json:"saturated"`
	Reason    string `json:"reason,omitempty"`
	// CapacityRPS is the most requests per second that the instance answered
	// within the limits: its capacity when it was saturated, a lower bound of
	// it otherwise.
	CapacityRPS float64 `json:"capacity_rps"`
	// Restored says that every gateway has its usual shares again.
	Restored bool    `json:"restored"`
	Verdict  string  `json:"verdict"`
	MS       float64 `json:"ms"`
}

// SqueezeLimits are where an instance counts as saturated.
type SqueezeLimits struct {
	P99MS      float64 `json:"p99_ms,omitempty"`
	ErrorRatio float64 `json:"error_ratio,omitempty"`
}

// SqueezeStep is what the instance did at one share.
type SqueezeStep struct {
	// Share of the VIP's requests that it got.
	Share    float64 `json:"share"`
	Requests int64   `json:"requests"`
	Errors   int64   `json:"errors"`
	// Others went to other instances.
	Others     int64   `json:"others"`
	RPS        float64 `json:"rps"`
	P50MS      float64 `json:"p50_ms"`
	P99MS      float64 `json:"p99_ms"`
	ErrorRatio float64 `json:"error_ratio"`
	Within     bool    `json:"within"`
	MS         float64 `json:"ms"`
}

// DebugRequest asks for a token that shows the detail of requests.
type DebugRequest struct {
	// Instance or VIP that requests with the token are sent to; at most one.
	Instance string `json:"instance,omitempty"`
	VIP      string `json:"vip,omitempty"`
	// Member to sign in as: a token of its own, for routes that are for
	// members; "" is none.
	Member string `json:"member,omitempty"`
	// ForMS is how long they are good.
	ForMS float64 `json:"for_ms"`
}

// DebugToken is the JSON of "flix gateway debug".
type DebugToken struct {
	Header string `json:"header"`
	Token  string `json:"token"`
	// MemberToken goes into Authorization: Bearer.
	MemberToken string    `json:"member_token,omitempty"`
	Expires     time.Time `json:"expires"`
	// Gateways where it is taken: plain HTTP by instance.
	Gateways map[string]string `json:"gateways"`
}

func gatewayMux(m *http.ServeMux, e GatewayEngine) {
	m.HandleFunc("GET /v1/gateway/routes", get(e.Routes))
	m.HandleFunc("POST /v1/gateway/routes", call(e.ChangeRoutes))
	m.HandleFunc("GET /v1/gateway/routes/history", get(e.RouteHistory))
	m.HandleFunc("GET /v1/gateway/filters", func(w http.ResponseWriter, r *http.Request) {
		get(func(ctx context.Context) (Filters, error) { return e.Filters(ctx, r.URL.Query().Get("region")) })(w, r)
	})
	m.HandleFunc("POST /v1/gateway/filters", call(e.ChangeFilter))
	m.HandleFunc("POST /v1/gateway/squeeze", stream(e.Squeeze))
	m.HandleFunc("POST /v1/gateway/squeeze/stop", call(e.StopSqueeze))
	m.HandleFunc("POST /v1/gateway/debug", call(e.DebugToken))
}
