package web

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// Lab is what the page is told by the lab's daemon; *control.Client is one.
type Lab interface {
	World(context.Context) (control.World, error)
	Status(context.Context) (control.Status, error)
	Sessions(context.Context) ([]control.Session, error)
	// Events calls f for each event after seq; with follow until ctx ends.
	Events(ctx context.Context, seq uint64, follow bool, f func(control.Event) error) error
}

// API is a client's way to the public API.
type API interface {
	http.RoundTripper
	// Close ends its connections.
	Close()
}

// Viewer is who watches.
type Viewer struct {
	Email, Password string
}

// Config of a Server.
type Config struct {
	Lab Lab
	// Connect makes the way to the API of a client that lives near a region of
	// the world; "" is where the command's flags put it.
	Connect func(w control.World, region string) (API, error)
	// Offer is the member that the sign-in form is filled in with.
	Offer Viewer
	// Poll is how often the lab is asked for its state while somebody looks;
	// 0 is once a second.
	Poll time.Duration
	// Warn hears of requests that could not be passed on; it may be nil.
	Warn func(format string, args ...any)
}

// Server serves the page. Use New.
type Server struct {
	c     Config
	ways  *ways
	watch *watch
}

// grace is how long requests under way may take once the server has to end.
const grace = time.Second

// headTime is how long a browser may take for a request's head.
const headTime = 10 * time.Second

// New makes a server of a lab as it is now.
func New(ctx context.Context, c Config) (*Server, error) {
	if c.Lab == nil || c.Connect == nil {
		return nil, services.Errorf(services.Invalid, "web: Config without Lab or Connect")
	}
	if c.Poll <= 0 {
		c.Poll = time.Second
	}
	if c.Warn == nil {
		c.Warn = func(string, ...any) {}
	}
	s := &Server{c: c, ways: newWays(c)}
	s.watch = newWatch(c, s.ways)
	if err := s.ways.refresh(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Serve answers on a loopback listener until ctx ends, and closes it.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	defer s.ways.close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		return err
	}
	// Streams to browsers end with ctx, whatever grace others get.
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	srv := &http.Server{
		Handler: guard(port, s.routes()), ReadHeaderTimeout: headTime, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		BaseContext: func(net.Listener) context.Context { return base },
	}
	looking, stopLooking := context.WithCancel(ctx)
	var background sync.WaitGroup
	background.Go(func() { s.watch.run(looking) })
	defer func() { stopLooking(); background.Wait() }()
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		late, stop := context.WithTimeout(base, grace)
		defer stop()
		if srv.Shutdown(late) != nil {
			_ = srv.Close() // what still runs after the grace is cut off
		}
		err = <-done
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// routes are few: the page, the lab, and everything else is the public API's.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { serveFile(w, r, "assets/index.html") })
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, r *http.Request) { serveFile(w, r, "assets/icon.svg") })
	for _, dir := range []string{"/assets/", "/vendor/"} {
		mux.HandleFunc("GET "+dir, func(w http.ResponseWriter, r *http.Request) { serveFile(w, r, strings.TrimPrefix(r.URL.Path, "/")) })
	}
	mux.HandleFunc("GET /lab/world", s.world)
	mux.HandleFunc("GET /lab/live", s.watch.serve)
	mux.Handle("/", s.ways)
	return mux
}

// World is what the page needs to know before it begins.
type World struct {
	Lab     string        `json:"lab"`
	Regions []WorldRegion `json:"regions"`
	// Home is the region that viewers are near unless they say otherwise.
	Home string `json:"home"`
	// ReportS is how often a player reports, in seconds; BufferS is the most it
	// holds ahead.
	ReportS float64 `json:"report_s"`
	BufferS float64 `json:"buffer_s"`
	// StallMS is how long an appliance may send nothing, ProbeMS how long one may
	// take to connect, in milliseconds.
	StallMS float64 `json:"stall_ms"`
	ProbeMS float64 `json:"probe_ms"`
	Offer   Offer   `json:"offer"`
}

// Offer is the member that the sign-in form suggests.
type Offer struct {
	Email    string `json:"email"`
	Password string `json:"password"`
}

// WorldRegion is a region and what is near it.
type WorldRegion struct {
	Name    string     `json:"name"`
	Country string     `json:"country"`
	Zones   []string   `json:"zones"`
	Sites   []SiteOnly `json:"sites"`
}

// SiteOnly is a site where appliances stand.
type SiteOnly struct {
	Name       string `json:"name"`
	Kind       string `json:"kind"` // isp or exchange
	Country    string `json:"country,omitempty"`
	Appliances int    `json:"appliances"`
}

func (s *Server) world(w http.ResponseWriter, _ *http.Request) {
	telemetry.WriteJSON(w, http.StatusOK, s.describe(s.ways.now()))
}

func (s *Server) describe(w control.World) World {
	t := w.Topology.Timing
	ms := func(d topology.Duration) float64 { return float64(d.D().Microseconds()) / 1000 }
	out := World{
		Lab: w.Lab, ReportS: t.ProgressReport.D().Seconds(), BufferS: t.BufferAhead.D().Seconds(), StallMS: ms(t.StallTimeout), ProbeMS: ms(t.ProbeTimeout),
		Offer: Offer(s.c.Offer),
	}
	for i, r := range w.Topology.Regions {
		if i == 0 {
			out.Home = r.Name
		}
		wr := WorldRegion{Name: r.Name, Country: r.Country, Zones: r.Zones, Sites: []SiteOnly{{Name: r.Exchange.Name, Kind: string(topology.SiteExchange), Appliances: len(r.Exchange.Appliances)}}}
		for _, isp := range r.ISPs {
			wr.Sites = append(wr.Sites, SiteOnly{Name: isp.Name, Kind: string(topology.SiteISP), Country: isp.Country, Appliances: len(isp.Appliances)})
		}
		out.Regions = append(out.Regions, wr)
	}
	return out
}
