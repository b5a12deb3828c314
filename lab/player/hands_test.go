package player

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// There are as many hands as tasks at once; they stay for the next tasks, and go
// when none comes.
func TestHandsStayForTheNextTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := make(hands)
		var done atomic.Int32
		wait := func() { time.Sleep(time.Millisecond); done.Add(1) }
		for round := range 3 {
			for range 10 {
				go h.apart(wait)
			}
			time.Sleep(handsWait / 2)
			if n := done.Swap(0); n != 10 {
				t.Errorf("round %d: %d tasks were done within the time of one, want 10", round, n)
			}
		}
		take := func() (n int) {
			release := make(chan struct{})
			defer close(release)
			for {
				select {
				case h <- task{func() { <-release }, make(chan struct{})}:
					n++
				default:
					return n
				}
			}
		}
		if n := take(); n != 10 {
			t.Errorf("%d hands wait for a task, want the 10 of before", n)
		}
		synctest.Wait()
		time.Sleep(2 * handsWait)
		if n := take(); n != 0 {
			t.Errorf("%d hands wait for a task that does not come", n)
		}
	})
}
