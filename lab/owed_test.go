package lab

import (
	"encoding/json"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/flix-lab/flix/services/gateway"
	"github.com/flix-lab/flix/topology"
)

// A gateway that could not be reached when something was set is told as soon as
// it can be, without another command; also that something was taken back.
func TestWhatWasMissedIsToldAgain(t *testing.T) {
	l := testLab(t, testEnv(t), "x")
	l.remote = newRemotes()
	t.Cleanup(l.remote.close)
	if err := l.want(preset(t, 1), 0); err != nil {
		t.Fatal(err)
	}
	specs, err := l.gateways("")
	if err != nil {
		t.Fatal(err)
	}
	s := specs[0]
	kept, gone := gateway.FilterProperty("compress", "disable"), gateway.FilterProperty("cors", "disable")
	set := func(name, value string) {
		t.Helper()
		if err := l.changeIntent(func(i *intent) { i.setProperty(s.Region, topology.RoleGateway, name, value) }); err != nil {
			t.Fatal(err)
		}
		l.tell(t.Context(), name) // nobody listens
	}
	set(kept, "true")
	set(gone, "true")
	set(gone, "")
	l.repay(t.Context())
	if _, owed := l.owed[s.ID]; !owed {
		t.Fatal("nothing is owed to a gateway that hears nothing")
	}
	told := make(chan map[string]string, 8)
	ln, err := net.Listen("tcp", s.Addr(topology.PortAdmin))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var props map[string]string
		if err := json.NewDecoder(r.Body).Decode(&props); err != nil || r.URL.Path != "/properties" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		told <- props
		_, _ = w.Write([]byte("{}"))
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	defer func() { _ = srv.Close(); <-done }()
	l.repay(t.Context())
	props := <-told
	if v, ok := props[gone]; !ok || v != "" || props[kept] != "true" {
		t.Errorf("it was told %v", props)
	}
	l.repay(t.Context())
	if len(told) != 0 || len(l.owed[s.ID]) != 0 {
		t.Errorf("it is told again: %v, %v", len(told), l.owed)
	}
}
