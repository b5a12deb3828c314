package gateway

import (
	"net/http"
	"testing"

	"github.com/flix-lab/flix/services/rpc"
)

// TestFaultsAreMarkedHere: what a client says of faults is taken away, and what
// the gateway says of them is passed on, for those in scope alone.
func TestFaultsAreMarkedHere(t *testing.T) {
	w, inject := newWorld(t), &rpc.Injector{}
	e := w.gateway("us-east", func(d *Deps) { d.Faults = inject })
	e.api("play", "us-east/a/play/1", echo("play"))
	mark := func(member string) string {
		a := ask(t, e.client(eastClient, false), "GET", "/play/x", "", "Authorization", w.member(member), "Baggage", "flix-faults=f-9")
		return a.seen(t).Header.Get(rpc.HeaderMark)
	}
	if m := mark("m-1"); m != "" {
		t.Errorf("a client names faults: %q", m)
	}
	inject.Set([]rpc.Call{
		{ID: "f-1", Name: "license", Share: 1, Scope: rpc.Scope{Members: []string{"m-1"}}},
		{ID: "f-2", Name: "license", Share: 1, Scope: rpc.Scope{ISPs: []string{"us-east-isp-1"}}},
		{ID: "f-3", Name: "license", Share: 1},
	})
	if m := mark("m-1"); m != "flix-faults=f-1.f-2" {
		t.Errorf("in the scope of two it is %q", m)
	}
	if m := mark("m-2"); m != "flix-faults=f-2" {
		t.Errorf("in the scope of one it is %q", m)
	}
	inject.Set([]rpc.Call{{ID: "f-4", Name: "/play", Share: 1, Fail: true, Scope: rpc.Scope{Members: []string{"m-1"}}}})
	for member, want := range map[string]int{"m-1": http.StatusServiceUnavailable, "m-2": http.StatusOK} {
		if a := ask(t, e.client(eastClient, false), "GET", "/play/x", "", "Authorization", w.member(member)); a.StatusCode != want {
			t.Errorf("%s: status %d, want %d", member, a.StatusCode, want)
		}
	}
}
