package resilience

import (
	"context"
	"testing"

	"github.com/flix-lab/flix/services/telemetry"
)

// The utilisation is that of the fullest command, by its bulkhead.
func TestUtilisation(t *testing.T) {
	g := NewGroup(telemetry.Discard(), Options{})
	if u := g.Utilisation(); u != 0 {
		t.Errorf("of nothing: %v", u)
	}
	narrow, wide := New[string](g, "Narrow", Options{MaxConcurrent: 4}), New[string](g, "Wide", Options{MaxConcurrent: 100})
	entered, leave, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	hold := func(c *Command[string]) {
		go func() {
			_, _ = c.Do(t.Context(), func(context.Context) (string, error) {
				entered <- struct{}{}
				<-leave
				return "", nil
			})
			done <- struct{}{}
		}()
		<-entered
	}
	for k, step := range []struct {
		cmd  *Command[string]
		want float64
	}{{wide, 0.01}, {narrow, 0.25}, {narrow, 0.5}, {wide, 0.5}} {
		hold(step.cmd)
		if u := g.Utilisation(); u != step.want {
			t.Errorf("step %d: %v, want %v", k, u, step.want)
		}
	}
	close(leave)
	for range 4 {
		<-done
	}
	if u := g.Utilisation(); u != 0 {
		t.Errorf("afterwards: %v", u)
	}
}
