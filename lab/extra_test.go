package lab

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/lookup"
	"github.com/flix-lab/flix/topology"
)

// darkLab is a lab with two dark instances, of which those that silent names do
// not answer. It notes what instances are told.
func darkLab(t *testing.T, silent string) (l *Lab, dark []topology.Instance, told func() []string) {
	t.Helper()
	l = answeringLab(t, edges)
	r := l.current().Topology.Regions[0]
	dark = l.current().next(r, topology.RolePlay, 2)
	if err := l.changeIntent(func(i *intent) { i.addDark(dark) }); err != nil {
		t.Fatal(err)
	}
	ports := map[string]string{}
	for _, x := range dark {
		s, err := l.spec(l.current(), x)
		if err != nil {
			t.Fatal(err)
		}
		ports[s.Addr(topology.PortAdmin)] = x.ID
	}
	var (
		mu    sync.Mutex
		heard []string
	)
	l.remote.http.Transport = roundTrip(func(q *http.Request) (*http.Response, error) {
		id := ports[q.URL.Host]
		if id != "" && id == silent {
			return nil, errors.New("connection refused")
		}
		body := "{}"
		if strings.Contains(q.URL.Path, "/eureka/") {
			body = `{"instance": {"status": "UP"}}`
		}
		if q.Method == http.MethodPost {
			b, err := io.ReadAll(q.Body)
			if err != nil {
				return nil, err
			}
			mu.Lock()
			heard = append(heard, id+" "+string(b))
			mu.Unlock()
		}
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: q}, nil
	})
	return l, dark, func() []string {
		mu.Lock()
		defer mu.Unlock()
		slices.Sort(heard)
		return slices.Clone(heard)
	}
}

// roundTrip is a function as an http.RoundTripper.
type roundTrip func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// status is what an instance is declared to tell the registry, at its start and
// while it runs.
func status(t *testing.T, l *Lab, x topology.Instance) [2]string {
	t.Helper()
	s, err := l.spec(l.current(), x)
	if err != nil {
		t.Fatal(err)
	}
	return [2]string{s.Status, s.Properties[propStatus]}
}

// An instance that is added is STARTING until it is lit, and then UP, also when
// it starts again; the declared ones are UP from the start.
func TestDarkInstancesAreLit(t *testing.T) {
	l, dark, told := darkLab(t, "")
	for _, x := range dark {
		if got := status(t, l, x); got != [2]string{lookup.StatusStarting, lookup.StatusStarting} {
			t.Errorf("%s is declared %q", x.ID, got)
		}
	}
	if got := status(t, l, l.current().Topology.Instances()[0]); got != [2]string{lookup.StatusUp, ""} {
		t.Errorf("a declared instance is %q", got)
	}
	n, err := planet{l}.Light(t.Context())
	if err != nil || n != len(dark) {
		t.Fatalf("%d were lit: %v", n, err)
	}
	var want []string
	for _, x := range dark {
		want = append(want, x.ID+` {"registry.status":"UP"}`)
		if got := status(t, l, x); got != [2]string{lookup.StatusUp, lookup.StatusUp} {
			t.Errorf("%s is declared %q after it was lit", x.ID, got)
		}
	}
	slices.Sort(want)
	if got := told(); !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
	if n, err := (planet{l}).Light(t.Context()); n != 0 || err != nil {
		t.Errorf("lit %d again: %v", n, err)
	}
}

// One that does not answer is given no work, nor are those beside it.
func TestDarkInstanceThatDoesNotAnswer(t *testing.T) {
	l, _, _ := darkLab(t, "")
	silent := l.current().Extra[1].ID
	l, dark, told := darkLab(t, silent)
	_, err := planet{l}.Light(t.Context())
	if services.KindOf(err) != services.Unavailable || !strings.Contains(err.Error(), silent) {
		t.Errorf("error %v, want one that names %s", err, silent)
	}
	if got := told(); len(got) != 0 {
		t.Errorf("told %q", got)
	}
	for _, x := range dark {
		if got := status(t, l, x); got[0] != lookup.StatusStarting {
			t.Errorf("%s is %s", x.ID, got[0])
		}
	}
}

// What the autoscaler added and did not come to light is its own to light.
func TestLightLeavesTheAutoscalersAlone(t *testing.T) {
	l, dark, _ := darkLab(t, "")
	if err := l.changeIntent(func(i *intent) { i.Grown = map[string]bool{dark[0].ID: true} }); err != nil {
		t.Fatal(err)
	}
	if n, err := (planet{l}).Light(t.Context()); n != 1 || err != nil {
		t.Errorf("lit %d: %v", n, err)
	}
	if !l.current().Dark[dark[0].ID] {
		t.Error("the autoscaler's was lit by an evacuation")
	}
}
