package containers

import (
	"net/http"
	"testing"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// TestDetach takes it as done where an engine says that there is nothing to do.
func TestDetach(t *testing.T) {
	for _, c := range []struct {
		name, says string
		status     int
		fails      bool
	}{
		{"it is off", "container c1 is not connected to network n", http.StatusForbidden, false},
		{"it is gone", "No such container: c1", http.StatusNotFound, false},
		{"it is being removed", "Container c1 is marked for removal and cannot be connected or disconnected to the network", http.StatusConflict, false},
		{"something else", "the driver failed", http.StatusInternalServerError, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newOdd(t)
			r := e.runtime(topology.Containers{})
			e.on("POST /networks/"+r.networkName()+"/disconnect", failing(c.status, c.says))
			if err := r.detach(t.Context(), found{container: "c1", name: "flix-c1", attached: true}); (err != nil) != c.fails {
				t.Errorf("%v (%v)", err, services.KindOf(err))
			}
			if !e.did("POST /networks/" + r.networkName() + "/disconnect") {
				t.Error("the engine was not asked")
			}
		})
	}
}
