package gateway

import (
	"encoding/json"
	"errors"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// maxRoutes bounds a routing table.
const maxRoutes = 256

// Route sends the paths under a prefix to a VIP.
type Route struct {
	// Prefix matches the path itself and everything below it: "/play"
	// matches "/play" and "/play/start", not "/playback".
	Prefix string `json:"prefix"`
	// VIP is the registry's name of the API.
	VIP string `json:"vip"`
	// Member says that only requests with a member token get through.
	Member bool `json:"member,omitempty"`
	// Timeout of one try; 0 takes the gateway's.
	Timeout topology.Duration `json:"timeout,omitempty"`
	// Name in metrics and spans; by default the prefix without slashes
	// around it.
	Name string `json:"name,omitempty"`
}

// DefaultRoutes is the table without the property gateway.routes.
func DefaultRoutes() []Route {
	return []Route{
		{Prefix: "/signup", VIP: string(topology.RoleSignup)},
		{Prefix: "/signup/account", VIP: string(topology.RoleSignup), Member: true},
		{Prefix: "/signup/plan", VIP: string(topology.RoleSignup), Member: true},
		{Prefix: "/openapi.json", VIP: string(topology.RoleSignup)},
		{Prefix: "/discovery", VIP: string(topology.RoleDiscovery), Member: true},
		{Prefix: "/play", VIP: string(topology.RolePlay), Member: true},
	}
}

// routes is a checked table, longest prefix first.
type routes []Route

var vipForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$`)

// ParseRoutes reads a routing table and checks it whole: a table with one bad
// route is refused, so that a slip never takes an API off the air.
func ParseRoutes(text string) ([]Route, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	var rs []Route
	if err := d.Decode(&rs); err != nil {
		return nil, &services.Error{Op: "routes", Kind: services.Invalid, Msg: "want a JSON array of routes", Err: err}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, services.Errorf(services.Invalid, "routes: something follows the array")
	}
	return newRoutes(rs)
}

func newRoutes(rs []Route) (routes, error) {
	if len(rs) == 0 || len(rs) > maxRoutes {
		return nil, services.Errorf(services.Invalid, "routes: %d of them, want 1 to %d", len(rs), maxRoutes)
	}
	table := make(routes, 0, len(rs))
	for i, r := range rs {
		if !strings.HasPrefix(r.Prefix, "/") || !cleanPath(r.Prefix) {
			return nil, services.Errorf(services.Invalid, "routes[%d].prefix: %q is not a clean absolute path", i, r.Prefix)
		}
		if !vipForm.MatchString(r.VIP) {
			return nil, services.Errorf(services.Invalid, "routes[%d].vip: %q is not the name of a VIP", i, r.VIP)
		}
		r.Prefix = strings.TrimSuffix(r.Prefix, "/")
		if r.Name == "" {
			r.Name = strings.TrimPrefix(r.Prefix, "/")
		}
		if r.Name == "" {
			r.Name = r.VIP
		}
		if slices.ContainsFunc(table, func(o Route) bool { return o.Prefix == r.Prefix }) {
			return nil, services.Errorf(services.Invalid, "routes[%d].prefix: %q is there twice", i, r.Prefix)
		}
		table = append(table, r)
	}
	slices.SortStableFunc(table, func(a, b Route) int { return len(b.Prefix) - len(a.Prefix) })
	return table, nil
}

// match returns the route with the longest prefix, or nil.
func (rs routes) match(p string) *Route {
	for i := range rs {
		if rest, ok := strings.CutPrefix(p, rs[i].Prefix); ok && (rest == "" || rest[0] == '/') {
			return &rs[i]
		}
	}
	return nil
}

// cleanPath refuses what the gateway and an API might read differently: dot
// segments, empty segments, backslashes and control characters.
func cleanPath(p string) bool {
	if !strings.HasPrefix(p, "/") {
		return false
	}
	if strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }) {
		return false
	}
	return p == "/" || (path.Clean(p) == strings.TrimSuffix(p, "/") && !strings.HasSuffix(p, "//"))
}
