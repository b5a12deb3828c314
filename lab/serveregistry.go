package lab

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/resident"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/registry"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// RegistryOptions say how a registry runs on its own, outside any lab.
type RegistryOptions struct {
	// Listen is the address of the REST API, Admin that of metrics and of the
	// admin paths ("" for none); the latter ask for FLIX_ADMIN_KEY.
	Listen, Admin string
	Region        string
	// Peers are base URLs of the region's other registries; it may be among
	// them itself. Remotes are NAME=URL of other regions'.
	Peers, Remotes []string
	// Timing is production or lab; the intervals above zero take the place of
	// the preset's.
	Timing                                                               string
	LeaseRenewal, LeaseDuration, EvictionInterval, RegistryFetch, Retain time.Duration
	// SelfPreservation is on, off or auto.
	SelfPreservation string
	// EmptyWait is how long it refuses fetches after a start that found
	// nothing at its peers.
	EmptyWait time.Duration
	// FetchRate and FullFetchRate limit fetches a second, FetchBurst at once.
	FetchRate, FullFetchRate float64
	FetchBurst               int
	LimitEverybody           bool
	// Ready is told the address it listens on, and the admin's or "".
	Ready func(addr, admin string)
}

// RunRegistry runs a registry until ctx ends. It logs warnings and worse as
// JSON lines to the standard error, more by FLIX_LOG_LEVEL.
func RunRegistry(ctx context.Context, env Env, o RegistryOptions) error {
	timing, err := o.timing()
	if err != nil {
		return err
	}
	remotes, err := parseRemotes(o.Remotes)
	if err != nil {
		return err
	}
	for _, p := range o.Peers {
		if err := checkURL("--peer", p); err != nil {
			return err
		}
	}
	switch o.SelfPreservation {
	case "on", "off", "auto":
	default:
		return services.Errorf(services.Invalid, "--self-preservation: %q is none of on, off, auto", o.SelfPreservation)
	}
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return listenError("--listen", o.Listen, err)
	}
	tel := telemetry.New(telemetry.Config{
		Instance: "registry/" + l.Addr().String(), Role: string(topology.RoleRegistry), Region: o.Region,
		Log:        standaloneLog(env),
		Properties: map[string]string{"registry.selfPreservation": o.SelfPreservation},
	})
	d := registry.Deps{
		Listener: l, Tel: tel, Timing: timing, Region: o.Region, EmptyWait: o.EmptyWait, DeltaRetention: o.Retain,
		Limits: registry.Limits{Fetches: o.FetchRate, FullFetches: o.FullFetchRate, Burst: o.FetchBurst, Everybody: o.LimitEverybody},
	}
	if len(o.Peers) > 0 {
		d.Peers = func() []string { return o.Peers }
	}
	if len(remotes) > 0 {
		d.Remotes = func() map[string][]string { return remotes }
	}
	s, err := registry.New(d)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	g, ctx := errgroup.WithContext(ctx)
	admin, err := serveAdminOf(ctx, g, env, o.Admin, tel, s.RegisterAdmin)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	g.Go(func() error { return s.Serve(ctx) })
	if o.Ready != nil {
		o.Ready(l.Addr().String(), admin)
	}
	releaseStart(env)
	return g.Wait()
}

// adminKeyVar names the variable that holds the key of the admin paths of a
// server that runs on its own. Without it they refuse everybody; metrics and
// health are for all.
const adminKeyVar = "FLIX_ADMIN_KEY"

// standaloneLog writes a lone server's warnings and worse as JSON lines to the
// standard error, more by FLIX_LOG_LEVEL.
func standaloneLog(env Env) slog.Handler {
	level := slog.LevelWarn
	if env.Getenv("FLIX_LOG_LEVEL") != "" {
		level = logLevel(env)
	}
	return slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level})
}

// releaseStart gives back what only a lone server's start needed, once it serves.
func releaseStart(env Env) {
	if err := resident.Release(); err != nil {
		slog.New(standaloneLog(env)).Warn("memory", "error", err)
	}
}

// serveAdminOf serves a lone server's admin endpoint until ctx ends, and
// returns its address.
func serveAdminOf(ctx context.Context, g *errgroup.Group, env Env, addr string, tel *telemetry.Telemetry, add func(*http.ServeMux, string)) (string, error) {
	if addr == "" {
		return "", nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", listenError("--admin", addr, err)
	}
	key := env.Getenv(adminKeyVar)
	mux := tel.AdminMux(key)
	add(mux, key)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	g.Go(func() error {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error { <-ctx.Done(); return srv.Close() })
	return l.Addr().String(), nil
}

func listenError(flag, addr string, err error) error {
	return &services.Error{Op: flag + " " + addr, Kind: services.Unavailable, Msg: "the address cannot be listened on", Err: err, Remedy: "name a free one, or port 0 for any: 127.0.0.1:0"}
}

// timing is the preset with what the options change.
func (o RegistryOptions) timing() (topology.Timing, error) {
	var t topology.Timing
	switch o.Timing {
	case "production":
		t = topology.ProductionTiming()
	case "lab":
		t = topology.LabTiming()
	default:
		return t, services.Errorf(services.Invalid, "--timing: %q is neither production nor lab", o.Timing)
	}
	for _, f := range []struct {
		flag string
		from time.Duration
		to   *topology.Duration
	}{
		{"--lease-renewal", o.LeaseRenewal, &t.LeaseRenewal}, {"--lease-duration", o.LeaseDuration, &t.LeaseDuration},
		{"--eviction-interval", o.EvictionInterval, &t.EvictionInterval}, {"--fetch-interval", o.RegistryFetch, &t.RegistryFetch},
	} {
		if f.from < 0 {
			return t, services.Errorf(services.Invalid, "%s: %s is below zero", f.flag, f.from)
		}
		*f.to = cmp.Or(topology.Duration(f.from), *f.to)
	}
	if t.LeaseDuration < t.LeaseRenewal {
		return t, services.Errorf(services.Invalid, "a lease of %s runs out before it is renewed every %s", t.LeaseDuration, t.LeaseRenewal).WithRemedy("make --lease-duration a multiple of --lease-renewal")
	}
	return t, nil
}

func parseRemotes(list []string) (map[string][]string, error) {
	out := map[string][]string{}
	for _, r := range list {
		name, u, ok := strings.Cut(r, "=")
		if !ok || name == "" {
			return nil, services.Errorf(services.Invalid, "--remote-region: %q is not NAME=URL", r).WithRemedy("write it like eu-west=http://127.0.0.1:8762")
		}
		if err := checkURL("--remote-region "+name, u); err != nil {
			return nil, err
		}
		out[name] = append(out[name], u)
	}
	return out, nil
}

func checkURL(flag, s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return services.Errorf(services.Invalid, "%s: %q is not the URL of a registry", flag, s).WithRemedy("write it like http://127.0.0.1:8761/eureka/v2")
	}
	return nil
}
