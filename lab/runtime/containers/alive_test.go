package containers

import (
	"net/http"
	"testing"
	"time"

	"github.com/flix-lab/flix/topology"
)

// TestHostsAreRemembered asks again and again which hosts are alive: the engine is
// asked once, then again when its answer is old, and when the runtime has
// stopped something itself.
func TestHostsAreRemembered(t *testing.T) {
	e := newOdd(t)
	r := e.runtime(topology.Containers{})
	list := func(state string) {
		e.json("GET /containers/json", []map[string]any{{
			"Id": "0123456789abcdef", "Names": []string{"/x-north-a-kv-1"}, "State": state, "Status": "Up 5 minutes",
			"Labels":          map[string]string{labelHost: "north", labelRole: "kv", labelID: "north/a/kv/1"},
			"NetworkSettings": map[string]any{"Networks": map[string]any{r.networkName(): map[string]any{"EndpointID": "e"}}},
		}})
	}
	asked := func() (n int) {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, q := range e.asked {
			if q == "GET /containers/json" {
				n++
			}
		}
		return n
	}
	list("running")
	before := asked()
	for range 20 {
		if hs := r.Hosts(); !hs["north"] {
			t.Fatalf("%v, and north runs", hs)
		}
		r.alive.at = time.Now() // however slow this machine is
	}
	if n := asked() - before; n != 1 {
		t.Errorf("the engine was asked %d times for 20 answers in a row", n)
	}
	r.Hosts()["north"] = false // the caller's own
	list("exited")
	if hs := r.Hosts(); !hs["north"] {
		t.Errorf("%v: nobody has told of a change", hs)
	}
	e.on("POST /containers/0123456789abcdef/kill", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	if err := r.KillHost(t.Context(), "north"); err != nil {
		t.Fatal(err)
	}
	if hs := r.Hosts(); hs["north"] {
		t.Errorf("%v after it was killed", hs)
	}
	list("running")
	r.alive.at = r.alive.at.Add(-aliveFor)
	if hs := r.Hosts(); !hs["north"] {
		t.Errorf("%v: the answer was old, and it runs again", hs)
	}
}
