package topology

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// RouteTable is routes as BGP would bring them, by the site or appliance that
// learned them. It is immutable.
type RouteTable struct {
	routes map[string][]Route
	count  int
}

// Route is one learned prefix.
type Route struct {
	Prefix netip.Prefix
	// ASPath is how many networks are on the way, MED the multi-exit
	// discriminator: of two routes of one prefix length the shorter path wins,
	// then the smaller MED.
	ASPath, MED uint32
}

// The widest prefix that the IANA gives away at once, to a registry of many
// networks: /8 of IPv4, /12 of IPv6 (the IPv4 and IPv6 global unicast registries).
const (
	widest4 = 8
	widest6 = 12
)

// private6 are the unique local addresses, of which anybody may take what he likes
// (RFC 4193).
var private6 = netip.MustParsePrefix("fc00::/7")

// CatchAll says whether a prefix is no network's own: a default route, or one cut
// into a few parts. Who announces it says where its own packets go, not whose it
// can deliver.
func CatchAll(p netip.Prefix) bool {
	switch {
	case p.Addr().Is4():
		return p.Bits() < widest4
	case p.Bits() >= private6.Bits() && private6.Contains(p.Addr()):
		return false
	}
	return p.Bits() < widest6
}

// At lists the routes of a site or an appliance.
func (t *RouteTable) At(name string) []Route { return t.routes[name] }

// Len is the number of routes.
func (t *RouteTable) Len() int { return t.count }

// Places are the sites and appliances that have routes, in order.
func (t *RouteTable) Places() []string { return slices.Sorted(maps.Keys(t.routes)) }

const (
	// maxRoutes bounds a table: several times the internet's.
	maxRoutes = 10_000_000
	// maxASPath is the longest AS path.
	maxASPath = 255
	// maxRouteErrors bounds the problems that are reported of one file.
	maxRouteErrors = 20
)

// ParseRoutes reads a table of routes. Each line is
//
//	PREFIX PLACE [AS_PATH [MED]]
//
// with white space between: an IPv4 or IPv6 prefix, the site or appliance that
// learned it, the number of networks on the way (0 to 255, default 0) and the
// multi-exit discriminator (default 0). Empty lines, and what follows a #, are
// skipped. The name of the file is for errors, which are ParseErrors with line
// and field.
func ParseRoutes(file string, r io.Reader) (*RouteTable, error) {
	t := &RouteTable{routes: map[string][]Route{}}
	var errs ParseErrors
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 64<<10), 64<<10)
	line := 0
	for sc.Scan() {
		line++
		text, _, _ := strings.Cut(sc.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		place, route, problem := parseRoute(fields)
		if problem == nil && t.count >= maxRoutes {
			problem = &ParseError{Field: "prefix", Problem: fmt.Sprintf("is one route too many: a table has %d at most", maxRoutes), Remedy: "leave out the more specific ones"}
		}
		if problem != nil {
			problem.File, problem.Line = file, line
			if errs = append(errs, problem); len(errs) >= maxRouteErrors {
				return nil, errs
			}
			continue
		}
		if _, ok := t.routes[place]; !ok {
			place = strings.Clone(place) // the line it is part of can go
		}
		t.routes[place] = append(t.routes[place], route)
		t.count++
	}
	if err := sc.Err(); err != nil {
		return nil, &ParseError{File: file, Line: line + 1, Problem: "cannot be read: " + err.Error(), Remedy: "write one route a line, of 64 KiB at most"}
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return t, nil
}

func parseRoute(fields []string) (place string, r Route, problem *ParseError) {
	p, err := netip.ParsePrefix(fields[0])
	switch {
	case err != nil:
		return "", r, &ParseError{Field: "prefix", Value: fields[0], Problem: "is not a prefix", Remedy: "write it like 198.18.0.0/20 or 2001:db8::/48"}
	case p != p.Masked():
		return "", r, &ParseError{Field: "prefix", Value: fields[0], Problem: "has bits beyond its length", Remedy: "write " + p.Masked().String()}
	case p.Addr().Is4In6():
		remedy := "write it like 198.18.0.0/20"
		if p.Bits() >= 96 {
			remedy = "write " + netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96).String()
		}
		return "", r, &ParseError{Field: "prefix", Value: fields[0], Problem: "is of IPv4 addresses in the form of IPv6, which no client has", Remedy: remedy}
	case len(fields) < 2:
		return "", r, &ParseError{Field: "place", Problem: "is missing", Remedy: "write the site or appliance that learned the prefix"}
	case len(fields) > 4:
		return "", r, &ParseError{Field: "line", Value: fields[4], Problem: "is one field too many", Remedy: "write PREFIX PLACE [AS_PATH [MED]]"}
	}
	r.Prefix = p
	if len(fields) > 2 {
		n, err := strconv.ParseUint(fields[2], 10, 32)
		if err != nil || n > maxASPath {
			return "", r, &ParseError{Field: "as_path", Value: fields[2], Problem: "is not a path length", Remedy: fmt.Sprintf("write the number of networks on the way, 0 to %d", maxASPath)}
		}
		r.ASPath = uint32(n)
	}
	if len(fields) > 3 {
		n, err := strconv.ParseUint(fields[3], 10, 32)
		if err != nil {
			return "", r, &ParseError{Field: "med", Value: fields[3], Problem: "is not a multi-exit discriminator", Remedy: "write 0 to 4294967295"}
		}
		r.MED = uint32(n)
	}
	return fields[1], r, nil
}
