package player

import (
	"context"
	"net/http"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/signup"
)

// Edge is a client's way to the public API without a play: the same DNS, WAN,
// client address and TLS. It is an http.RoundTripper for requests to any host,
// which all go to the public API's. Nothing is tried twice, except to connect,
// but after a failure the next request looks for the API anew, and elsewhere.
type Edge struct {
	s *session
}

// Edge makes one for the client that the options describe; only those that say
// who and where it is are read. Close it.
func (p *Player) Edge(o Options) (*Edge, error) {
	o = o.withDefaults()
	where, err := placeOf(p.cfg.Topology, o)
	if err != nil {
		return nil, err
	}
	return &Edge{p.session(o, where)}, nil
}

// RoundTrip implements http.RoundTripper.
func (e *Edge) RoundTrip(r *http.Request) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.Host = "https", hostDiscovery, hostDiscovery
	resp, err := e.s.finding.traced.RoundTrip(out)
	if r.Context().Err() == nil && (err != nil || resp.StatusCode >= http.StatusInternalServerError) {
		e.s.finding.turnAway()
	}
	if err != nil {
		return nil, &services.Error{Op: r.Method + " " + r.URL.Path, Kind: services.Unavailable, Msg: "the public API cannot be reached", Err: err, Remedy: "flix lab status shows what runs"}
	}
	return resp, nil
}

// SignIn returns a token of the member that the options name.
func (e *Edge) SignIn(ctx context.Context) (string, error) { return e.s.signIn(ctx) }

// SignUp makes a member, or finds that there is one of that address. It is tried
// again as a play's calls are: the request's key makes that safe.
func (e *Edge) SignUp(ctx context.Context, in signup.SignupRequest) error {
	_, err := e.s.finding.call(ctx, persistent, http.MethodPost, signup.PathSignup, in.Key, in, nil)
	if services.KindOf(err) == services.Conflict {
		return nil
	}
	return services.Wrap("sign "+in.Email+" up", err)
}

// Close ends every connection.
func (e *Edge) Close() { e.s.hangUp() }
