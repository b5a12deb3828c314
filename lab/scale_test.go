package lab

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/lab/autoscale"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// instances answers for all of a lab's.
type instances func(path string) string

// RoundTrip implements http.RoundTripper.
func (f instances) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(f(r.URL.Path))), Request: r}, nil
}

// answeringLab is a lab of one region whose instances all answer alike.
func answeringLab(t *testing.T, f instances) *Lab {
	t.Helper()
	l := testLab(t, testEnv(t), "x")
	l.remote = newRemotes()
	t.Cleanup(l.remote.close)
	l.remote.http = &http.Client{Transport: f}
	if err := l.want(preset(t, 1), 0); err != nil {
		t.Fatal(err)
	}
	return l
}

// edges is a gateway's or another instance's answer, the same at every time.
func edges(path string) string {
	if path == "/edge" {
		return `{"client_requests": 3}`
	}
	return ""
}

// A policy may bring a region to as many gateways as it likes.
func TestEdgeOfManyGateways(t *testing.T) {
	l := answeringLab(t, edges)
	r := l.current().Topology.Regions[0]
	const more = 80
	if err := l.changeIntent(func(i *intent) { i.Extra = i.next(r, topology.RoleGateway, more) }); err != nil {
		t.Fatal(err)
	}
	want := len(instancesOf(l.current(), scaleKey{r.Name, topology.RoleGateway}))
	e, err := planet{l}.Edge(t.Context(), r.Name)
	if err != nil || want <= more || e.Gateways != want || e.ClientRequests != uint64(3*want) {
		t.Errorf("%d of %d gateways, %d requests, error %v", e.Gateways, want, e.ClientRequests, err)
	}
}

// A policy whose minimum is below what the topology has come to declare can be
// paused and removed, and cannot be changed as it is.
func TestPolicyThatNoLongerFits(t *testing.T) {
	l := answeringLab(t, edges)
	region := l.current().Topology.Regions[0].Name
	p := autoscale.Defaults(1)
	if d := declared(l.current(), scaleKey{region, topology.RolePlay}); d <= p.Min {
		t.Fatalf("%d instances are declared", d)
	}
	if err := l.changeIntent(func(i *intent) {
		i.Policies = map[string]map[topology.Role]autoscale.Policy{region: {topology.RolePlay: p}}
	}); err != nil {
		t.Fatal(err)
	}
	target := 2.0
	if _, err := l.SetScale(t.Context(), control.ScaleRequest{Role: topology.RolePlay, Set: &control.ScaleChange{Target: &target}}); services.KindOf(err) != services.Invalid {
		t.Errorf("changed: %v", err)
	}
	if _, err := l.SetScale(t.Context(), control.ScaleRequest{Role: topology.RolePlay, Pause: true}); err != nil || !l.current().Policies[region][topology.RolePlay].Paused {
		t.Errorf("paused: %v", err)
	}
	if _, err := l.SetScale(t.Context(), control.ScaleRequest{Role: topology.RolePlay, Remove: true}); err != nil {
		t.Error(err)
	}
	if n := len(l.current().Policies[region]); n != 0 {
		t.Errorf("%d policies are left", n)
	}
}

// A lab that nobody has asked for anything for long is still in use while a verb
// is under way, and for as long as it may be idle after that.
func TestVerbsAreAUse(t *testing.T) {
	l := answeringLab(t, edges)
	if err := l.changeIntent(func(i *intent) { i.IdleStop = minIdle }); err != nil {
		t.Fatal(err)
	}
	w := idleWatch{requests: map[string]uint64{}, since: time.Now().Add(-time.Hour)}
	for _, r := range l.current().Topology.RegionNames() {
		e, err := planet{l}.Edge(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		w.requests[r] = e.ClientRequests
	}
	end, err := l.begin(t.Context(), "check")
	if err != nil {
		t.Fatal(err)
	}
	w.look(t.Context(), l, l.current())
	end()
	if time.Since(w.since) > time.Minute || w.requests == nil {
		t.Errorf("idle since %s", w.since)
	}
	w.looked = time.Time{}
	w.look(t.Context(), l, l.current())
	if l.current().Halted {
		t.Error("the lab was stopped right after a verb")
	}
}

// What a policy decided is not said of the one that takes its place.
func TestResumedPolicyIsNotCalledPaused(t *testing.T) {
	l := answeringLab(t, edges)
	k := scaleKey{l.current().Topology.Regions[0].Name, topology.RolePlay}
	said := func(r control.ScaleRequest) string {
		t.Helper()
		r.Role = k.role
		if _, err := l.SetScale(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		return l.scaleService(l.current(), k).Reason
	}
	target := 2.0
	said(control.ScaleRequest{Set: &control.ScaleChange{Target: &target}})
	said(control.ScaleRequest{Pause: true})
	if err := l.scaleOne(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	if got := l.scaleService(l.current(), k).Reason; got != "paused" {
		t.Fatalf("a paused policy decided %q", got)
	}
	if got := said(control.ScaleRequest{Resume: true}); got != "" {
		t.Errorf("a resumed policy is said to have decided %q", got)
	}
}
