package lab

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/flix-lab/flix/lab/input"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/gateway"
)

// declaredRoutes reads PATH=URL[,URL…]. A path that is given twice has the
// upstreams of both.
func declaredRoutes(ctx context.Context, texts []string, networks []netip.Prefix) (gateway.Table, error) {
	t := gateway.Table{Version: 1}
	if len(texts) == 0 {
		return t, services.Errorf(services.Invalid, "no --route").WithRemedy("declare upstreams: --route /api=http://127.0.0.1:9000")
	}
	for _, text := range texts {
		path, urls, ok := strings.Cut(text, "=")
		if !ok || !strings.HasPrefix(path, "/") || urls == "" {
			return t, services.Errorf(services.Invalid, "--route %q: want PATH=URL[,URL…]", text).WithRemedy("write it like /api=http://127.0.0.1:9000")
		}
		if strings.Contains(path, "*") {
			return t, services.Errorf(services.Invalid, "--route %q: * stands for itself in a path", text).WithRemedy("write the path alone, it covers everything below it: /api=http://127.0.0.1:9000")
		}
		path = "/" + strings.Trim(path, "/")
		r := gateway.Route{Prefix: path}
		if path == "/" {
			r.Name = "root"
		}
		at := slices.IndexFunc(t.Routes, func(r gateway.Route) bool { return r.Prefix == path })
		if at >= 0 {
			r = t.Routes[at]
		}
		for u := range strings.SplitSeq(urls, ",") {
			up, err := readUpstream(ctx, strings.TrimSpace(u), networks)
			if err != nil {
				return t, err
			}
			if err := up.join(&r, text); err != nil {
				return t, err
			}
		}
		if at >= 0 {
			t.Routes[at] = r
		} else {
			t.Routes = append(t.Routes, r)
		}
	}
	return t, nil
}

// upstream is one URL of a route.
type upstream struct {
	origin     string // SCHEME://ADDRESS:PORT
	serverName string // that it must prove; "" is its address
	rewrite    string // of the matched path; "" leaves it
}

// join adds the upstream to a route, whose upstreams differ in their address
// alone.
func (u upstream) join(r *gateway.Route, text string) error {
	if len(r.Origins) > 0 {
		scheme, _, _ := strings.Cut(u.origin, "://")
		if !strings.HasPrefix(r.Origins[0], scheme+"://") || r.ServerName != u.serverName || r.Rewrite != u.rewrite {
			return services.Errorf(services.Invalid, "--route %q: the upstreams of %s differ in more than their address", text, r.Prefix).
				WithRemedy("give them the same scheme and path, and over TLS the same host")
		}
	}
	r.Origins = append(r.Origins, u.origin)
	r.ServerName, r.Rewrite = u.serverName, u.rewrite
	return nil
}

// defaultPorts are those of an upstream's schemes.
var defaultPorts = map[string]string{"http": "80", "h2c": "80", "https": "443"}

// readUpstream reads an upstream's URL; a name is looked up once, now: it could
// come to mean anything later.
func readUpstream(ctx context.Context, text string, networks []netip.Prefix) (upstream, error) {
	bad := func(why string) error {
		return services.Errorf(services.Invalid, "--route: upstream %q: %s", text, why).WithRemedy("write it like http://127.0.0.1:9000, https://example.org or h2c://127.0.0.1:9000/v1")
	}
	u, err := url.Parse(text)
	if err != nil {
		return upstream{}, bad(err.Error())
	}
	port, ok := defaultPorts[u.Scheme]
	switch {
	case !ok:
		return upstream{}, bad("its scheme is not http, https or h2c")
	case u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return upstream{}, bad("it is more than scheme, host, port and path")
	}
	if u.Port() != "" {
		port = u.Port()
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return upstream{}, bad("its port is not 1 to 65535")
	}
	up := upstream{rewrite: u.EscapedPath()}
	if _, err := netip.ParseAddr(u.Hostname()); err != nil && u.Scheme == "https" {
		up.serverName = strings.ToLower(u.Hostname())
	}
	a, err := addressInside(ctx, u.Hostname(), text, networks)
	if err != nil {
		return upstream{}, err
	}
	up.origin = u.Scheme + "://" + netip.AddrPortFrom(a, uint16(n)).String()
	return up, nil
}

// addressInside finds a host's address that lies in one of the networks.
func addressInside(ctx context.Context, host, text string, networks []netip.Prefix) (netip.Addr, error) {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.Addr{}, &services.Error{Op: "--route", Kind: services.Invalid, Msg: fmt.Sprintf("upstream %q: its host has no address", text), Err: err, Remedy: "give an address"}
	}
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return a.Unmap().BitLen() - b.Unmap().BitLen() })
	for _, a := range addrs {
		a = a.Unmap()
		if slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return a, nil
		}
	}
	return netip.Addr{}, services.Errorf(services.Denied, "--route: upstream %q lies outside the declared networks %s", text, joinPrefixes(networks)).
		WithRemedy("declare its network with --origin-cidr")
}

// authorities reads a PEM file of certificates; nil for no file.
func authorities(ctx context.Context, flag, file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	b, err := input.ReadFile(ctx, file, maxPEM)
	if err != nil {
		return nil, &services.Error{Op: flag, Kind: services.Invalid, Msg: "no file of certificates", Err: err, Remedy: "give a PEM file"}
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, services.Errorf(services.Invalid, "%s %s: there is no certificate in it", flag, file).WithRemedy("give a PEM file")
	}
	return pool, nil
}
