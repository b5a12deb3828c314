package lab

import (
	"cmp"
	"context"
	"crypto/x509"
	"net"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace/noop"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/player"
	"github.com/flix-lab/flix/lab/wan"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/signup"
	"github.com/flix-lab/flix/services/telemetry"
)

// PlayOptions and PlayReport are the player's own; see package player.
type (
	PlayOptions  = player.Options
	PlayReport   = player.Report
	PlayProgress = player.Progress
)

// Viewer plays titles of a running lab from this process: it only knows what a
// client program would, and what the emulated WAN needs.
type Viewer struct {
	p     *player.Player
	tel   *telemetry.Telemetry
	cfg   player.Config
	table *wan.Table
}

// NewViewer builds a viewer of the world; observe gets progress about once a
// second and may be nil.
func NewViewer(w control.World, observe func(PlayProgress)) (*Viewer, error) {
	ca := x509.NewCertPool()
	if !ca.AppendCertsFromPEM(w.CAPEM) {
		return nil, services.Errorf(services.Internal, "the lab's authority cannot be read")
	}
	var resolvers []player.Resolver
	for _, r := range w.Topology.RegionNames() {
		if a, ok := w.DNS[r]; ok {
			resolvers = append(resolvers, player.Resolver{Region: r, Address: a})
		}
	}
	table := wan.NewTable(w.Topology, func(addr string) (string, bool) {
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			return "", false
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			return "", false
		}
		for _, r := range w.Ports {
			if n >= r.First && n <= r.Last {
				return r.Region, true
			}
		}
		return "", false
	})
	tel := telemetry.New(telemetry.Config{Instance: "player", Role: "player"})
	cfg := player.Config{Resolvers: resolvers, RootCAs: ca, Topology: w.Topology, Tel: tel, Observe: observe, Dial: table.Dialer,
		DialISP: func(region, isp string) services.DialFunc {
			return table.DialerAt(wan.Site{Region: region, ISP: isp})
		}}
	p, err := player.New(cfg)
	if err != nil {
		return nil, err
	}
	v := &Viewer{p: p, tel: tel, cfg: cfg, table: table}
	v.Feel(w.Faults)
	return v, nil
}

// observed is the viewer with another observer of its plays.
func (v *Viewer) observed(observe func(PlayProgress)) (*Viewer, error) {
	cfg := v.cfg
	cfg.Observe = observe
	p, err := player.New(cfg)
	return &Viewer{p: p, tel: v.tel, cfg: cfg, table: v.table}, err
}

// newFleetViewer builds a viewer for many plays at once: it records no spans.
func newFleetViewer(w control.World) (*Viewer, error) {
	v, err := NewViewer(w, nil)
	if err != nil {
		return nil, err
	}
	v.tel.Tracer = noop.NewTracerProvider().Tracer("player")
	return v, nil
}

// SignUp makes a member of the lab, on the plan that allows many streams. One
// that is there already is as good.
func (v *Viewer) SignUp(ctx context.Context, email, password, country string) error {
	edge, err := v.p.Edge(PlayOptions{})
	if err != nil {
		return err
	}
	defer edge.Close()
	return edge.SignUp(ctx, signup.SignupRequest{Key: "viewer-" + email, Email: email, Name: "Viewer", Password: password, Plan: fleetPlan, Country: country})
}

// fleetPlan allows every device and any number of streams.
const fleetPlan = "lab"

// Play plays one title; the report is meaningful beside an error too.
func (v *Viewer) Play(ctx context.Context, o PlayOptions) (PlayReport, error) {
	return v.p.Play(ctx, o)
}

// Spans returns the player's own spans of a trace.
func (v *Viewer) Spans(traceID string) []control.Span {
	var out []control.Span
	for _, s := range v.tel.Spans(traceID) {
		out = append(out, control.Span(s))
	}
	return out
}

// The member that canaries sign in as, and "flix play" does by default: its
// plan allows every device and many streams at once.
const (
	DemoEmail    = "demo@flix.test"
	DemoPassword = "flix-demo"
)

// canarySeconds of media a canary plays, as fast as they come.
const canarySeconds = 4

// canarySpeed is the factor of its playback clock.
const canarySpeed = 100

// canaryTime bounds one canary play.
const canaryTime = 10 * time.Second

// viewer returns the daemon's own viewer of the lab as it is now.
func (l *Lab) viewer(ctx context.Context) (*Viewer, error) {
	w, err := l.World(ctx)
	if err != nil {
		return nil, err
	}
	return NewViewer(w, nil)
}

// canary plays a few seconds of the most popular title as a viewer near a
// region.
func (l *Lab) canary(ctx context.Context, near string) error {
	_, err := l.canaryReport(ctx, near)
	return err
}

func (l *Lab) canaryReport(ctx context.Context, near string) (PlayReport, error) {
	v, err := l.viewer(ctx)
	if err != nil {
		return PlayReport{}, err
	}
	title, err := canaryTitle()
	if err != nil {
		return PlayReport{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, canaryTime)
	defer cancel()
	r, err := v.Play(ctx, PlayOptions{Title: title, Email: DemoEmail, Password: DemoPassword, Region: near, Seconds: canarySeconds, Speed: canarySpeed})
	l.keepSpans(v.Spans(r.TraceID))
	if err != nil {
		return r, err
	}
	if !r.ChecksumOK || r.Segments == 0 {
		return r, services.Errorf(services.Unavailable, "nothing was played: %d segments, checksum ok %v, errors: %s", r.Segments, r.ChecksumOK, cmp.Or(strings.Join(r.Errors, "; "), "none"))
	}
	return r, nil
}
