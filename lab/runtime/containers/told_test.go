package containers

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/topology"
)

// TestStateOfUnits checks what is said of an instance from its container and
// from what runs inside: a pack of which one unit fails was all well before.
func TestStateOfUnits(t *testing.T) {
	old, young := time.Now().Add(-time.Hour), time.Now()
	inst := func(role topology.Role) runtime.Spec {
		return runtime.Spec{Instance: topology.Instance{ID: "north/a/" + string(role) + "/1", Region: "north", Zone: "a", Role: role, Number: 1}}
	}
	pack := found{container: "0123456789abcdef", name: "pack", role: rolePack, host: "north", running: true, started: old}
	store := found{container: "fedcba9876543210", name: "store", role: string(topology.RoleKV), host: "north", running: true, started: old}
	unit := func(s runtime.Spec, state runtime.State, text string) map[string]runtime.Instance {
		return map[string]runtime.Instance{s.ID: {Spec: s, State: state, Error: text, Restarts: 3, Started: young}}
	}
	gateway, kv := inst(topology.RoleGateway), inst(topology.RoleKV)
	agents := map[string]string{"north": "agent"}
	silence := func(name string) map[string]error { return map[string]error{name: errors.New("no route")} }
	ended, starting := pack, pack
	ended.running, ended.status = false, "Exited (137) 2 seconds ago"
	starting.started = young
	for name, c := range map[string]struct {
		told told
		c    found
		spec runtime.Spec
		want runtime.State
		says string
	}{
		"it runs":                       {told{units: unit(gateway, runtime.Running, "")}, pack, gateway, runtime.Running, ""},
		"it fails in a pack":            {told{units: unit(gateway, runtime.Failed, "no port")}, pack, gateway, runtime.Failed, "no port"},
		"it was killed in a pack":       {told{units: unit(gateway, runtime.Stopped, "")}, pack, gateway, runtime.Gone, "without it"},
		"the pack was never told":       {told{units: unit(kv, runtime.Running, "")}, pack, gateway, runtime.Gone, "without it"},
		"the container ended":           {told{units: unit(gateway, runtime.Running, "")}, ended, gateway, runtime.Gone, "Exited (137)"},
		"the container hangs":           {told{silent: silence("pack")}, pack, gateway, runtime.Failed, "docker restart pack"},
		"the container is on its way":   {told{silent: silence("pack")}, starting, gateway, runtime.Running, ""},
		"a store":                       {told{agents: agents, units: unit(kv, runtime.Running, "")}, store, kv, runtime.Running, ""},
		"a store whose sidecar fails":   {told{agents: agents, units: unit(kv, runtime.Failed, "no port")}, store, kv, runtime.Failed, "its sidecar fails: no port"},
		"a store without its sidecar":   {told{agents: agents}, store, kv, runtime.Gone, "its sidecar does not run"},
		"a store without an agent":      {told{}, store, kv, runtime.Gone, "the container of its sidecar does not run"},
		"a store whose agent is silent": {told{agents: agents, silent: silence("agent")}, store, kv, runtime.Failed, "docker restart agent"},
	} {
		got := c.told.state(c.c, c.spec)
		if got.State != c.want || !strings.Contains(got.Error, c.says) || c.says == "" && got.Error != "" || got.Container == "" {
			t.Errorf("%s: %s %q, want %s %q", name, got.State, got.Error, c.want, c.says)
		}
		if c.told.units[c.spec.ID].Restarts != 0 && c.want != runtime.Gone && got.Restarts != 3 {
			t.Errorf("%s: %d restarts, want 3", name, got.Restarts)
		}
	}
}
