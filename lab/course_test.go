package lab

import (
	"context"
	"errors"
	"testing"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

// A move outlives the command that asked for it, and another one goes along.
func TestCourseOutlivesItsCommand(t *testing.T) {
	l := testLab(t, testEnv(t), "x")
	command, gone := context.WithCancel(t.Context())
	ctx, c, land := l.embark(command, "failover", "us-east", func(control.Event) {})
	if c.forsaken() {
		t.Error("it is forsaken while its command is there")
	}
	gone()
	if ctx.Err() != nil || !c.forsaken() || l.underway() != c {
		t.Fatalf("error %v, forsaken %v", ctx.Err(), c.forsaken())
	}
	var heard []string
	joined := make(chan struct{})
	followed := make(chan control.Failover, 1)
	go func() {
		rep, err := c.follow(t.Context(), func(e control.Event) {
			heard = append(heard, e.Kind)
			if len(heard) == 1 {
				close(joined)
			}
		})
		if err == nil {
			t.Error("the error of the move is lost")
		}
		followed <- rep
	}()
	<-joined
	for c.forsaken() { // it has said that it goes along, and does so next
	}
	c.tell(control.Event{Kind: "failover.step"})
	land(control.Failover{ID: "1"}, errors.New("a play failed"))
	if rep := <-followed; rep.ID != "1" {
		t.Errorf("report %+v", rep)
	}
	if len(heard) != 2 || heard[1] != "failover.step" {
		t.Errorf("heard %q", heard)
	}
	if l.underway() != nil || ctx.Err() == nil {
		t.Error("it is still under way")
	}
}

// Who asks for it ends a move, and hears how it ended; the daemon's end does, too.
func TestCancelMove(t *testing.T) {
	l := testLab(t, testEnv(t), "x")
	if _, err := l.CancelMove(t.Context(), control.FailoverRequest{Region: "us-east"}); services.KindOf(err) != services.NotFound {
		t.Errorf("without a move: %v", err)
	}
	ctx, _, land := l.embark(t.Context(), "failover", "us-east", nil)
	go func() {
		<-ctx.Done()
		land(control.Failover{State: "rolled_back"}, ctx.Err())
	}()
	if _, err := l.CancelMove(t.Context(), control.FailoverRequest{Region: "eu-west"}); services.KindOf(err) != services.NotFound {
		t.Errorf("of another region: %v", err)
	}
	rep, err := l.CancelMove(t.Context(), control.FailoverRequest{Region: "us-east"})
	if err != nil || rep.State != "rolled_back" {
		t.Errorf("report %+v, error %v", rep, err)
	}
	var end context.CancelFunc
	l.life, end = context.WithCancel(t.Context())
	ctx, _, land = l.embark(t.Context(), "failover", "us-east", nil)
	end()
	<-ctx.Done()
	land(control.Failover{}, ctx.Err())
}

// A command does not go along with a move that is being undone, to fail with it: it
// waits for its end, and begins anew.
func TestMoveAwaitsOneThatIsUndone(t *testing.T) {
	l := testLab(t, testEnv(t), "x")
	ctx, _, land := l.embark(t.Context(), "failover", "us-east", nil)
	cancelled := make(chan struct{})
	go func() {
		defer close(cancelled)
		_, _ = l.CancelMove(t.Context(), control.FailoverRequest{})
	}()
	<-ctx.Done()
	_, err := l.Failover(t.Context(), control.FailoverRequest{Region: "us-east"}, func(e control.Event) {
		land(control.Failover{State: "rolled_back"}, errors.New("interrupted"))
	})
	if services.ReasonOf(err) != services.ReasonNoLab { // it has begun, and this lab was never up
		t.Errorf("error %v, want that of a move of its own", err)
	}
	<-cancelled
	gone, end := context.WithCancel(t.Context())
	ctx, c, land := l.embark(t.Context(), "failover", "us-east", nil)
	c.undone = true
	end()
	if _, err := l.Failover(gone, control.FailoverRequest{Region: "us-east"}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("of a command that is gone: %v", err)
	}
	land(control.Failover{}, ctx.Err())
}
