package edge

import (
	"net/http"
	"testing"
	"time"

	"github.com/flix-lab/flix/services/telemetry"
)

// What an instance says of itself counts the requests under way, the one that
// is answered too, and what its role knows beside them.
func TestAnswersSayHowMuchIsInUse(t *testing.T) {
	e := New("x", telemetry.Discard(), timing(time.Minute))
	entered, leave := make(chan struct{}), make(chan struct{})
	e.Handle(Operation{Pattern: "GET /x/slow"}, func(*http.Request) (any, error) {
		entered <- struct{}{}
		<-leave
		return nil, nil
	})
	e.Handle(Operation{Pattern: "GET /x/fast"}, func(*http.Request) (any, error) { return nil, nil })
	own := 0.0
	e.Load(func() float64 { return own })
	base, stop := serve(t, e)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	get := func(path string) string {
		r, err := client.Get(base + path)
		if err != nil {
			t.Error(err)
			return ""
		}
		_ = r.Body.Close()
		return r.Header.Get(HeaderLoad)
	}
	if got := get("/x/fast"); got != "TEXT application_utilization=0.004" { // 1 of 256
		t.Errorf("alone: %q", got)
	}
	done := make(chan struct{})
	for range 3 {
		go func() { get("/x/slow"); done <- struct{}{} }()
		<-entered
	}
	if got := get("/x/fast"); got != "TEXT application_utilization=0.016" { // 4 of 256
		t.Errorf("beside three: %q", got)
	}
	close(leave)
	for range 3 {
		<-done
	}
	own = 0.5
	if got := get("/nowhere"); got != "TEXT application_utilization=0.500" {
		t.Errorf("by the role's measure: %q", got)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
