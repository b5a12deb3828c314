package main

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/evacuate"
	"github.com/flix-lab/flix/services"
)

// Two may watch one lab: the one that comes second is refused the evacuation, says
// so and watches on. To a program each thing is a line.
func TestWatchGoesOnAfterARefusal(t *testing.T) {
	gateways := 0
	var asked []string
	refusal := services.ProblemOf(services.Errorf(services.Conflict, "a failover of us-east is under way"))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/failover/vitals", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode([]evacuate.Vitals{{Region: "us-east", Gateways: gateways}, {Region: "us-west", Gateways: 2}}) // a client that left needs none
	})
	mux.HandleFunc("POST /v1/failover", func(w http.ResponseWriter, r *http.Request) {
		var req control.FailoverRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			t.Error(err)
		}
		asked = append(asked, req.Region)
		_ = json.NewEncoder(w).Encode(control.Message{Error: &refusal})
	})
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: mux}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(listener) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })

	var out, msg bytes.Buffer
	w := &failoverWatch{
		a: &app{env: Env{Out: &out, Err: &msg}}, out: output{format: "json"}, client: control.NewClient(socket),
		sentinel: &evacuate.Sentinel{Rest: time.Hour, Retry: time.Minute}, was: map[string]string{},
	}
	for _, gateways = range []int{2, 0, 0, 2} {
		if err := w.look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var got []watchEntry
	for d := json.NewDecoder(&out); d.More(); {
		var e watchEntry
		if err := d.Decode(&e); err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	if len(asked) != 1 || asked[0] != "us-east" {
		t.Errorf("%q were to be evacuated, want us-east once", asked)
	}
	if len(got) != 3 || got[0].Kind != "sick" || got[1].Kind != "failed" || got[1].Error != refusal.Error || got[1].AgainS != 60 || got[2].Kind != "well" {
		t.Fatalf("%+v, want that it is sick, could not be evacuated and is well", got)
	}
	for _, e := range got {
		if e.Region != "us-east" || e.At.IsZero() {
			t.Errorf("%+v", e)
		}
	}
}
