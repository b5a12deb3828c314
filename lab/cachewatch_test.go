package lab

import (
	"context"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

func cacheServer(region, zone string, started int) runtime.Instance {
	id := region + "/" + zone + "/evcache/1"
	return runtime.Instance{
		Spec:  runtime.Spec{Instance: topology.Instance{ID: id, Region: region, Zone: zone, Role: topology.RoleEVCache}},
		State: runtime.Running, Started: time.Unix(int64(started), 0),
	}
}

// A server that was replaced, and one of a new zone, are filled without being
// asked; those of a lab that has just begun are not.
func TestColdZonesAreFilled(t *testing.T) {
	log, err := control.OpenLog(filepath.Join(t.TempDir(), "events.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var (
		mu     sync.Mutex
		warmed []string
		fails  int
	)
	c := &coldZones{log: log, started: map[string]time.Time{}, cold: map[coldZone]*attempts{}, warm: func(_ context.Context, region, zone string) error {
		mu.Lock()
		defer mu.Unlock()
		warmed = append(warmed, region+"/"+zone)
		if fails > 0 {
			fails--
			return services.Errorf(services.Unavailable, "it does not answer yet")
		}
		return nil
	}}
	look := func(live ...runtime.Instance) []string {
		c.look(t.Context(), live)
		c.wait()
		mu.Lock()
		defer mu.Unlock()
		got := slices.Clone(warmed)
		warmed = nil
		return got
	}
	a, b, far := cacheServer("us-east", "a", 1), cacheServer("us-east", "b", 1), cacheServer("us-west", "a", 1)
	for _, step := range []struct {
		what  string
		fails int
		live  []runtime.Instance
		want  []string
	}{
		{what: "a lab begins", live: []runtime.Instance{a, b}},
		{what: "nothing happens", live: []runtime.Instance{a, b}},
		{what: "a region comes", live: []runtime.Instance{a, b, far}},
		{what: "a server is down", live: []runtime.Instance{a, far}},
		{what: "it runs again", live: []runtime.Instance{a, cacheServer("us-east", "b", 2), far}, want: []string{"us-east/b"}},
		{what: "and that was all", live: []runtime.Instance{a, cacheServer("us-east", "b", 2), far}},
		{what: "a zone comes", fails: 1, live: []runtime.Instance{a, cacheServer("us-east", "c", 3), far}, want: []string{"us-east/c"}},
		{what: "it did not answer before", live: []runtime.Instance{a, cacheServer("us-east", "c", 3), far}, want: []string{"us-east/c"}},
		{what: "it is full", live: []runtime.Instance{a, cacheServer("us-east", "c", 3), far}},
		{what: "a region begins anew", live: []runtime.Instance{cacheServer("us-east", "a", 9), cacheServer("us-east", "c", 9), far}},
	} {
		mu.Lock()
		fails = step.fails
		mu.Unlock()
		if got := look(step.live...); !slices.Equal(got, step.want) {
			t.Errorf("%s: %v is filled, want %v", step.what, got, step.want)
		}
	}
}
