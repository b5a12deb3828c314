package lab

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/flix-lab/flix/lab/resident"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/gateway"
	"github.com/flix-lab/flix/services/lookup"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/topology"
)

// GatewayOptions declare a gateway that stands alone, without a lab.
type GatewayOptions struct {
	// Listen is host:port.
	Listen string
	// TLSCert and TLSKey are PEM files; with them the gateway speaks TLS 1.3,
	// HTTP/2 and HTTP/1.1, without them HTTP/1.1 and HTTP/2 in the clear.
	TLSCert, TLSKey string
	// Routes are PATH=URL[,URL…].
	Routes []string
	// OriginCIDRs are the networks that upstreams may lie in; loopback if
	// there are none.
	OriginCIDRs []string
	// TrustedProxies may say a client's address with a PROXY v2 header.
	TrustedProxies []string
	// Properties are NAME=VALUE, as in a lab.
	Properties []string
	// UpstreamCA is a PEM file with the authorities that upstreams over TLS are
	// verified by; "" takes the system's.
	UpstreamCA string
	// Admin is host:port for metrics and health, or "".
	Admin string
	// Drain is how long requests under way may last after the end.
	Drain time.Duration
	// Reload has the certificate read again for each value; nil never does. The
	// files are looked at with every handshake anyway.
	Reload <-chan os.Signal
}

// nobody is a registry without instances: the upstreams are declared.
type nobody struct{}

// VIP implements gateway.Lookup.
func (nobody) VIP(string) []lookup.Instance { return nil }

// RunGateway serves a gateway that stands alone until ctx ends and what is under
// way then is over. It says on out where it listens.
func RunGateway(ctx context.Context, env Env, o GatewayOptions, out io.Writer) error {
	networks, err := prefixes("--origin-cidr", o.OriginCIDRs)
	if err != nil {
		return err
	}
	if len(networks) == 0 {
		networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	trusted, err := prefixes("--trusted-proxy", o.TrustedProxies)
	if err != nil {
		return err
	}
	if o.Drain < 0 {
		return services.Errorf(services.Invalid, "--drain: %s is negative", o.Drain).WithRemedy("write it like 30s; 0 cuts off what is under way")
	}
	table, err := declaredRoutes(ctx, o.Routes, networks)
	if err != nil {
		return err
	}
	properties, err := gatewayProperties(o.Properties, table)
	if err != nil {
		return err
	}
	exp, err := exporter(ctx, env)
	if err != nil {
		return err
	}
	tel := telemetry.New(telemetry.Config{
		Instance: "gateway", Role: string(topology.RoleGateway), Region: "standalone", Exporter: exp, Properties: properties,
		Log: slog.NewJSONHandler(out, &slog.HandlerOptions{Level: max(logLevel(env), slog.LevelWarn)}),
	})
	d := gateway.Deps{
		Instance: "gateway", Region: "standalone", Zone: "a", Lookup: nobody{}, OriginCIDRs: networks, TrustedProxies: trusted,
		Tel: tel, DrainFor: o.Drain, Timing: topology.ProductionTiming(), Topology: func() topology.Topology { return topology.Topology{} },
	}
	// No token verifies with a key that nobody else has.
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	if d.Key, err = token.NewKey("standalone", secret); err != nil {
		return err
	}
	if d.OriginCAs, err = authorities(ctx, "--upstream-ca", o.UpstreamCA); err != nil {
		return err
	}
	say := func(text string) { fmt.Fprintf(out, "gateway: %s\n", text) }
	cert, err := givenCertificate(ctx, o.TLSCert, o.TLSKey, say)
	if err != nil {
		return err
	}
	scheme, err := listenGateway(ctx, &d, o.Listen, cert)
	if err != nil {
		return err
	}
	s, err := gateway.New(d)
	if err != nil {
		return err
	}
	admin, err := serveAdmin(o.Admin, tel)
	if err != nil {
		return err
	}
	defer admin()
	say(fmt.Sprintf("listening on %s://%s, %s, upstreams inside %s", scheme, listenerOf(d).Addr(), countOf(len(table.Routes), "route"), joinPrefixes(networks)))
	var group sync.WaitGroup
	defer group.Wait()
	watch, end := context.WithCancel(ctx)
	defer end()
	group.Go(func() {
		onHangup(watch, o.Reload, func() {
			if cert == nil {
				say("there is no certificate to read again: it serves without TLS")
				return
			}
			cert.reload(watch)
		})
	})
	defer keepLittle(env, say)()
	return s.Serve(ctx)
}

// keepLittle gives back what only the start needed, and sets what the heap may become;
// end takes that back.
func keepLittle(env Env, say func(string)) (end func()) {
	if err := resident.Release(); err != nil {
		say(err.Error())
	}
	if env.Getenv("GOGC") != "" { // the operator has said
		return func() {}
	}
	return resident.Floor(gatewayHeap)
}

func countOf(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

func joinPrefixes(ps []netip.Prefix) string {
	s := make([]string, 0, len(ps))
	for _, p := range ps {
		s = append(s, p.String())
	}
	return strings.Join(s, ", ")
}

func listenerOf(d gateway.Deps) net.Listener {
	if d.TLS != nil {
		return d.TLS
	}
	return d.HTTP
}

// listenGateway opens the gateway's listener: with a certificate, which may be nil,
// for TLS.
func listenGateway(ctx context.Context, d *gateway.Deps, listen string, cert *certificate) (scheme string, err error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return "", &services.Error{Op: "--listen " + listen, Kind: services.Invalid, Msg: "cannot listen there", Err: err, Remedy: "give a free HOST:PORT of this machine"}
	}
	if cert == nil {
		d.HTTP = l
		return "http", nil
	}
	d.TLS, d.TLSConfig = l, cert.config(ctx)
	return "https", nil
}

// serveAdmin answers metrics and health on a listener of its own.
func serveAdmin(addr string, tel *telemetry.Telemetry) (stop func(), err error) {
	if addr == "" {
		return func() {}, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, &services.Error{Op: "--admin " + addr, Kind: services.Invalid, Msg: "cannot listen there", Err: err, Remedy: "give a free HOST:PORT of this machine"}
	}
	srv := &http.Server{Handler: tel.AdminMux(""), ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l) // Close ends it
	}()
	return func() { _ = srv.Close(); <-done }, nil
}

func prefixes(flag string, texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, t := range texts {
		p, err := netip.ParsePrefix(t)
		if a, aerr := netip.ParseAddr(t); err != nil && aerr == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, &services.Error{Op: flag, Kind: services.Invalid, Msg: fmt.Sprintf("%q is no network", t), Err: err, Remedy: "write it like 10.0.0.0/8"}
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// gatewayProperties are the options' properties and the routes.
func gatewayProperties(texts []string, t gateway.Table) (map[string]string, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return nil, services.Wrap("routes", err)
	}
	out := map[string]string{
		gateway.PropertyRoutes: string(b),
		// Nobody else protects a declared upstream, and nobody knows what it
		// can take: a limit there is for the operator to set.
		gateway.PropertyConcurrency: strconv.Itoa(standaloneConcurrency),
		// Pages are the upstreams' own matter until the operator says otherwise.
		gateway.FilterProperty("cors", "origins"): gateway.CORSPass,
	}
	for _, p := range texts {
		name, value, ok := strings.Cut(p, "=")
		if !ok || !strings.HasPrefix(name, "gateway.") {
			return nil, services.Errorf(services.Invalid, "--property %q: want gateway.NAME=VALUE", p)
		}
		out[name] = value
	}
	if _, err := gateway.ParseTable(out[gateway.PropertyRoutes], nil); err != nil {
		return nil, err
	}
	return out, nil
}

// gatewayHeap in bytes is what the heap may become before it is collected: with little
// in use that is 5 % of the processor's time.
const gatewayHeap = 32 << 20

// standaloneConcurrency is how many requests may be under way to the upstreams
// of one route.
const standaloneConcurrency = 4096
