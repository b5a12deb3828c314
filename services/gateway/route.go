package gateway

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/gateway/wire"
	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/topology"
)

// maxRoutes bounds a routing table.
const maxRoutes = 256

// Route sends the requests that it matches to a target. All of the conditions
// that it names must hold.
type Route struct {
	// Name in metrics, spans and on the command line, unique in a table; by
	// default the path without slashes around it.
	Name string `json:"name,omitempty"`

	// Prefix matches the path itself and everything below it: "/play"
	// matches "/play" and "/play/start", not "/playback". Path matches
	// exactly. A route has one of them; an overlay may have none.
	Prefix string `json:"prefix,omitempty"`
	Path   string `json:"path,omitempty"`
	// Hosts that the client named, without a port; "*.example.org" is
	// everything below example.org.
	Hosts []string `json:"hosts,omitempty"`
	// Methods, upper case.
	Methods []string `json:"methods,omitempty"`
	// Headers that must have a value; "*" is any but none.
	Headers map[string]string `json:"headers,omitempty"`
	// Countries of the client, ISO 3166-1 alpha-2.
	Countries []string `json:"countries,omitempty"`
	// Devices: tv, phone, tablet or web, by the member's token or, without one, what
	// the client says of itself.
	Devices []string `json:"devices,omitempty"`
	// Members by id.
	Members []string `json:"members,omitempty"`
	// Percent of the viewers, 0 to 100, the same ones each time: by member,
	// else by the header Device-Id, else by address. nil is all of them.
	Percent *float64 `json:"percent,omitempty"`
	// Salt makes routes choose the same viewers: under one salt who is in 5 %
	// is in 10 % too. By default it is the route's name.
	Salt string `json:"salt,omitempty"`
	// When is a condition in the language of ParseCondition.
	When string `json:"when,omitempty"`
	// In are the regions whose gateways follow the route; none is all.
	In []string `json:"in,omitempty"`
	// Until is when the route ends by itself; nil is never.
	Until *time.Time `json:"until,omitempty"`

	// VIP is the registry's name of the API.
	VIP string `json:"vip,omitempty"`
	// Instance of the VIP to ask as long as it is up; an overlay's VIP may be
	// that of the route beneath.
	Instance string `json:"instance,omitempty"`
	// Region whose gateways get the request. VIP, if there is one, answers
	// there and where no gateway of the region can be reached.
	Region string `json:"region,omitempty"`
	// Origins are fixed servers, SCHEME://ADDRESS:PORT, inside the declared
	// networks, all of one scheme: http is HTTP/1.1, h2c HTTP/2 in the clear
	// and https either over TLS.
	Origins []string `json:"origins,omitempty"`
	// ServerName is what origins over TLS must prove to be, and the Host they
	// get; by default it is their address.
	ServerName string `json:"server_name,omitempty"`
	// Rewrite takes the place of the matched path for fixed origins: with the
	// prefix /api and the rewrite /v1, /api/x becomes /v1/x.
	Rewrite string `json:"rewrite,omitempty"`

	// Overlay changes only where requests of the route beneath go: what that
	// asks of a client stays. A surgical route is an overlay.
	Overlay bool `json:"overlay,omitempty"`
	// Priority orders routes before anything else does, higher first.
	Priority int `json:"priority,omitempty"`

	// Member says that only requests with a member token get through.
	Member bool `json:"member,omitempty"`
	// AnyPage says that pages of every origin may ask and read, as far as they
	// need no member's token for it: players on foreign sites.
	AnyPage bool `json:"any_page,omitempty"`
	// Class says what is shed first under overload: critical (default),
	// degraded or non-critical.
	Class string `json:"class,omitempty"`
	// Limits are rates beyond those of the filter rate-limit.
	Limits *Limits `json:"limits,omitempty"`
	// Timeout of one try; 0 takes the gateway's.
	Timeout topology.Duration `json:"timeout,omitempty"`

	compiled *compiled
}

// Table is a versioned routing table, the property gateway.routes.
type Table struct {
	// Version grows with each change; 0 is a table that nobody versioned.
	Version int     `json:"version"`
	Routes  []Route `json:"routes"`
}

// DefaultRoutes is the table without the property gateway.routes.
func DefaultRoutes() []Route {
	return []Route{
		{Name: "signup", Prefix: "/signup", VIP: string(topology.RoleSignup)},
		{Name: "account", Prefix: "/signup/account", VIP: string(topology.RoleSignup), Member: true},
		{Name: "plan", Prefix: "/signup/plan", VIP: string(topology.RoleSignup), Member: true},
		{Name: "openapi", Prefix: "/openapi.json", VIP: string(topology.RoleSignup)},
		{Name: "discovery", Prefix: "/discovery", VIP: string(topology.RoleDiscovery), Member: true, Class: Degraded.String()},
		{Name: "play", Prefix: "/play", VIP: string(topology.RolePlay), Member: true},
		// Stock players send no member token: what they ask for is signed. They
		// stand in pages of any site.
		{Name: "stock", Prefix: "/play/stock", VIP: string(topology.RolePlay), AnyPage: true},
	}
}

var (
	vipForm  = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$`)
	nameForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]{0,62}[A-Za-z0-9])?$`)
	idForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}$`)
	hostForm = regexp.MustCompile(`^(\*\.)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
	codeForm = regexp.MustCompile(`^[A-Z]{2}$`)
)

// maxMethod bounds a method that a route names, in bytes.
const maxMethod = 64

// ParseTable reads a table, or a bare array of routes, and checks it whole: a
// table with one bad route is refused, so that a slip never takes an API off
// the air. Fixed origins must lie in one of the networks; nil networks are not
// checked.
func ParseTable(text string, networks []netip.Prefix) (Table, error) {
	var t Table
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	into := any(&t)
	if strings.HasPrefix(strings.TrimSpace(text), "[") {
		into = &t.Routes
	}
	if err := d.Decode(into); err != nil {
		return Table{}, &services.Error{Op: "routes", Kind: services.Invalid, Msg: `want {"version":N,"routes":[…]}, or an array of routes`, Err: err}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Table{}, services.Errorf(services.Invalid, "routes: something follows the table")
	}
	if t.Version < 0 {
		return Table{}, services.Errorf(services.Invalid, "routes: version %d is below 0", t.Version)
	}
	routes, err := CheckRoutes(t.Routes, networks)
	t.Routes = routes
	return t, err
}

// CheckRoutes checks a table and returns it with its defaults filled in.
func CheckRoutes(rs []Route, networks []netip.Prefix) ([]Route, error) {
	if len(rs) == 0 || len(rs) > maxRoutes {
		return nil, services.Errorf(services.Invalid, "routes: %d of them, want 1 to %d", len(rs), maxRoutes)
	}
	out := make([]Route, 0, len(rs))
	for i, r := range rs {
		field, err := r.check(networks)
		if err == nil && slices.ContainsFunc(out, func(o Route) bool { return o.Name == r.Name }) {
			field, err = "name", services.Errorf(services.Invalid, "%q is there twice", r.Name).WithRemedy("give each route a name of its own")
		}
		if err != nil {
			return nil, atRoute(i, r.Name, field, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// atRoute says where in a table an error is.
func atRoute(i int, name, field string, err error) error {
	at := "routes[" + itoa(i) + "]"
	if name != "" {
		at += " (" + name + ")"
	}
	e := &services.Error{Op: at + "." + field, Kind: services.Invalid, Err: err}
	var inner *services.Error
	if errors.As(err, &inner) {
		e.Remedy = inner.Remedy
	}
	return e
}

// check checks one route and fills its defaults in; it names the field that is
// wrong.
func (r *Route) check(networks []netip.Prefix) (string, error) {
	bad := func(field, format string, args ...any) (string, error) {
		return field, services.Errorf(services.Invalid, format, args...)
	}
	if r.Name != "" && !nameForm.MatchString(r.Name) {
		return bad("name", "%q is not letters, digits and . _ / - inside, at most 64", r.Name)
	}
	switch {
	case r.Prefix != "" && r.Path != "":
		return bad("path", "a route has a prefix or a path, not both")
	case r.Path != "" && !cleanPath(r.Path):
		return bad("path", "%q is not a clean absolute path", r.Path)
	case r.Path != "", r.Prefix == "" && r.Overlay:
	case !strings.HasPrefix(r.Prefix, "/") || !cleanPath(r.Prefix):
		return bad("prefix", "%q is not a clean absolute path", r.Prefix)
	}
	r.Prefix = trimRoot(r.Prefix)
	r.Path = trimRoot(r.Path)
	if field, err := r.checkConditions(); err != nil {
		return field, err
	}
	if field, err := r.checkTarget(networks); err != nil {
		return field, err
	}
	if _, err := ParseClass(r.Class); err != nil {
		return "class", err
	}
	if r.Limits != nil {
		if _, err := r.Limits.parse(); err != nil {
			return "limits", err
		}
	}
	if r.Timeout < 0 {
		return bad("timeout", "%s is below 0", r.Timeout)
	}
	if r.Name == "" {
		r.Name = strings.Trim(r.Prefix+r.Path, "/")
	}
	if r.Name == "" {
		r.Name = r.target()
	}
	if r.Overlay && r.conditions() == 0 && r.Prefix == "" && r.Path == "" {
		return bad("overlay", "an overlay without any condition would take every request")
	}
	return "", nil
}

// trimRoot takes a slash at the end off, but for the root itself.
func trimRoot(p string) string {
	if p == "/" {
		return p
	}
	return strings.TrimSuffix(p, "/")
}

func (r *Route) checkConditions() (string, error) {
	bad := func(field, format string, args ...any) (string, error) {
		return field, services.Errorf(services.Invalid, format, args...)
	}
	for k, h := range r.Hosts {
		r.Hosts[k] = strings.ToLower(h)
		if !hostForm.MatchString(r.Hosts[k]) {
			return bad("hosts", "%q is not a host name, or *. and one", h)
		}
	}
	for k, m := range r.Methods {
		r.Methods[k] = strings.ToUpper(m)
		if len(m) > maxMethod || !wire.IsToken(m) {
			return bad("methods", "%q is not a method: one is a word such as GET or PURGE, at most %d of letters, digits and !#$%%&'*+-.^_`|~", m, maxMethod)
		}
		if r.Methods[k] == http.MethodConnect {
			return bad("methods", "%q opens a tunnel, and this edge opens none", m)
		}
	}
	for k, v := range r.Headers {
		if k == "" || strings.ContainsAny(k, " \t\r\n:") || strings.ContainsAny(v, "\r\n") {
			return bad("headers", "%q: %q is not a header and its value", k, v)
		}
	}
	for k, c := range r.Countries {
		r.Countries[k] = strings.ToUpper(c)
		if !codeForm.MatchString(r.Countries[k]) {
			return bad("countries", "%q is not a two-letter country code", c)
		}
	}
	for _, d := range r.Devices {
		if !slices.Contains(token.Devices(), d) {
			return bad("devices", "%q is not one of %s", d, strings.Join(token.Devices(), ", "))
		}
	}
	if slices.Contains(r.Members, "") {
		return bad("members", "a member's id is empty")
	}
	if p := r.Percent; p != nil && !(*p >= 0 && *p <= 100) {
		return bad("percent", "%v is outside 0 to 100", *p)
	}
	for _, name := range r.In {
		if !vipForm.MatchString(name) {
			return bad("in", "%q is not the name of a region", name)
		}
	}
	if r.When != "" {
		if _, err := ParseCondition(r.When, r.Name); err != nil {
			return "when", err
		}
	}
	return "", nil
}

func (r *Route) checkTarget(networks []netip.Prefix) (string, error) {
	bad := func(field, format string, args ...any) (string, error) {
		return field, services.Errorf(services.Invalid, format, args...)
	}
	if r.VIP != "" && !vipForm.MatchString(r.VIP) {
		return bad("vip", "%q is not the name of a VIP", r.VIP)
	}
	if r.Region != "" && !vipForm.MatchString(r.Region) {
		return bad("region", "%q is not the name of a region", r.Region)
	}
	if r.Instance != "" && !idForm.MatchString(r.Instance) {
		return bad("instance", "%q is not the id of an instance", r.Instance)
	}
	for k, o := range r.Origins {
		scheme, at, err := parseOrigin(o)
		if err != nil {
			return "origins", err
		}
		if first, _, _ := strings.Cut(r.Origins[0], "://"); first != scheme {
			return bad("origins", "%s and %s do not speak the same", r.Origins[0], o)
		}
		if networks != nil && !slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(at.Addr()) }) {
			return "origins", services.Errorf(services.Denied, "%s lies outside the declared networks %s", o, services.ListOf(networks)).
				WithRemedy("declare its network, or send to an instance of the registry")
		}
		r.Origins[k] = scheme + "://" + at.String()
	}
	switch {
	case r.ServerName != "" && (len(r.Origins) == 0 || !strings.HasPrefix(r.Origins[0], schemeTLS+"://")):
		return bad("server_name", "only origins over TLS prove a name")
	case r.ServerName != "" && !hostForm.MatchString(r.ServerName):
		return bad("server_name", "%q is not the name of a host", r.ServerName)
	case r.Rewrite != "" && (len(r.Origins) == 0 || r.Overlay):
		return bad("rewrite", "only a route to fixed origins, and no overlay, changes the path")
	case r.Rewrite != "" && (!cleanPath(r.Rewrite) || !plainPath(r.Rewrite)):
		return bad("rewrite", "%q is not a clean absolute path", r.Rewrite)
	}
	switch {
	case len(r.Origins) > 0 && (r.VIP != "" || r.Region != "" || r.Instance != ""):
		return bad("origins", "a route to fixed origins has no vip, region or instance")
	case r.Instance != "" && r.Region != "":
		return bad("instance", "another region's gateway chooses among its instances: a route names an instance or a region")
	case r.Instance != "" && r.VIP == "" && !r.Overlay:
		return bad("vip", "it is empty: the VIP of %s answers when the instance is not up", r.Instance)
	case r.target() == "":
		return bad("vip", "the route has no target: a vip, region, origin or, for an overlay, instance")
	}
	return "", nil
}

// target names where the route leads.
func (r *Route) target() string {
	switch {
	case len(r.Origins) > 0:
		return r.Origins[0]
	case r.Instance != "":
		return r.Instance
	case r.Region != "" && r.VIP != "":
		return r.Region + "/" + r.VIP
	case r.Region != "":
		return r.Region
	}
	return r.VIP
}

// conditions counts what the route asks besides its path.
func (r *Route) conditions() int {
	n := 0
	for _, has := range []bool{len(r.Hosts) > 0, len(r.Methods) > 0, len(r.Countries) > 0, len(r.Devices) > 0, len(r.Members) > 0, r.Percent != nil, r.When != "", len(r.In) > 0, r.Until != nil} {
		if has {
			n++
		}
	}
	return n + len(r.Headers)
}

// How fixed origins are spoken to.
const (
	schemePlain = "http"
	schemeTLS   = "https"
	schemeH2C   = "h2c"
)

// parseOrigin reads SCHEME://ADDRESS:PORT. A name could come to mean anything,
// so that only localhost is taken for an address.
func parseOrigin(text string) (string, netip.AddrPort, error) {
	bad := func(why string) (string, netip.AddrPort, error) {
		return "", netip.AddrPort{}, services.Errorf(services.Invalid, "origin %q: %s", text, why).WithRemedy("write it like http://127.0.0.1:8080")
	}
	u, err := url.Parse(text)
	if err != nil {
		return bad("it is not a URL")
	}
	if u.Scheme != schemePlain && u.Scheme != schemeTLS && u.Scheme != schemeH2C {
		return bad("the scheme is not http, https or h2c")
	}
	if (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" || u.User != nil || u.ForceQuery {
		return bad("it is more than an address and a port")
	}
	host, port := u.Hostname(), u.Port()
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if port == "" {
		port = "80"
		if u.Scheme == schemeTLS {
			port = "443"
		}
	}
	a, err := netip.ParseAddr(host)
	if err != nil || a.Zone() != "" {
		return bad("its host is not an address")
	}
	n, ok := wholeNumber(port)
	if !ok || n == 0 || n > 65535 {
		return bad("its port is not between 1 and 65535")
	}
	return u.Scheme, netip.AddrPortFrom(a.Unmap(), uint16(n)), nil
}

// cleanPath refuses what the gateway and an API might read differently: dot
// segments, empty segments, backslashes and control characters.
func cleanPath(p string) bool {
	if !strings.HasPrefix(p, "/") {
		return false
	}
	for i := range len(p) {
		if c := p[i]; c < ' ' || c == 0x7f || c == '\\' {
			return false
		}
	}
	if plainSegments(p) {
		return true
	}
	return p == "/" || (path.Clean(p) == strings.TrimSuffix(p, "/") && !strings.HasSuffix(p, "//"))
}

// plainSegments says that no segment is empty or begins with a dot, which most
// paths are and which needs no cleaning.
func plainSegments(p string) bool {
	for i := range len(p) {
		if p[i] == '/' && i+1 < len(p) && (p[i+1] == '/' || p[i+1] == '.') {
			return false
		}
	}
	return true
}
