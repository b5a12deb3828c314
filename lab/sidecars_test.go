package lab

import (
	"context"
	"testing"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/topology"
)

// A SQL sidecar finds the server beside it in a world that shows it, and in one
// that has let its region go.
func TestSidecarFindsItsOwnSQL(t *testing.T) {
	beside := runtime.Spec{
		Instance: topology.Instance{Region: "eu-west", Role: topology.RoleSQL},
		Address:  "127.0.0.1", PortNumbers: map[string]int{topology.PortRPC: 3306},
	}
	moved := beside
	moved.Address = "127.0.0.9"
	for _, c := range []struct {
		name   string
		stores []runtime.Spec
		want   string
	}{
		{"the world shows it elsewhere", []runtime.Spec{moved}, "127.0.0.9:3306"},
		{"the world has let it go", nil, "127.0.0.1:3306"},
	} {
		w := &Wiring{}
		w.world.Store(&shared{World: runtime.World{Stores: c.stores}})
		got, err := (&unit{w: w, spec: beside}).ownSQL(context.Background())
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v, want %q", c.name, got, err, c.want)
		}
	}
}
