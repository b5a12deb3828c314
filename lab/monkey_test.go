package lab

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// A schedule goes on when the daemon dies and another takes its place, and what
// cannot be killed meanwhile is said.
func TestMonkeyOutlivesADaemon(t *testing.T) {
	topo, err := topology.Preset(1)
	if err != nil {
		t.Fatal(err)
	}
	var killed []string
	daemon := func() (c *control.Client, die func()) {
		mux := http.NewServeMux()
		mux.HandleFunc("GET /v1/world", func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(control.World{Topology: topo}) // a client that left needs none
		})
		mux.HandleFunc("POST /v1/faults", func(w http.ResponseWriter, r *http.Request) {
			var q control.FaultRequest
			if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
				t.Error(err)
			}
			killed = append(killed, strings.TrimPrefix(q.Target, "instance:"))
			_ = json.NewEncoder(w).Encode(control.FaultStarted{})
		})
		socket := filepath.Join(t.TempDir(), "s")
		listener, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: mux}
		done := make(chan error, 1)
		go func() { done <- srv.Serve(listener) }()
		return control.NewClient(socket), func() { _ = srv.Close(); <-done }
	}
	client, die := daemon()
	t.Cleanup(func() { die() })
	away := services.Errorf(services.Unavailable, "no daemon can be started")
	asked := 0
	connect := func(context.Context) (*control.Client, error) {
		switch asked++; asked {
		case 3: // after the world and one kill
			die()
			return nil, away
		case 4:
			client, die = daemon()
		}
		return client, nil
	}
	run, err := Monkey(t.Context(), connect, MonkeyRequest{Monkey: fault.Monkey{Seed: 3, Mean: time.Second, Only: []string{"play", "gateway", "signup"}}, Last: 2 * time.Second, Unleash: true, TTL: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if len(run.Kills) < 3 {
		t.Fatalf("%+v: want three kills and more", run.Kills)
	}
	k := 0
	for n, x := range run.Kills {
		switch {
		case n == 1 && (x.Outcome != "failed" || x.Reason != away.Error()):
			t.Errorf("%+v: want that it failed, and why", x)
		case n != 1 && (x.Outcome != "killed" || k >= len(killed) || killed[k] != x.Instance):
			t.Errorf("%+v: want it killed, as were %q", x, killed)
		case n != 1:
			k++
		}
	}
}
