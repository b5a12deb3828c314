package gateway

import (
	"sync"
	"time"

	"github.com/flix-lab/flix/services/gateway/wire"
)

// answerTime bounds the wait for an answer's header by the request's deadline, or
// by as long from the last piece of its body.
type answerTime struct {
	r        *wire.Request
	late     func()
	progress wire.Progress

	mu    sync.Mutex
	timer *time.Timer
	over  bool // nobody waits any more
	was   bool // late has been called
}

func (a *answerTime) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.timer = time.AfterFunc(time.Until(a.r.Deadline), a.look)
}

func (a *answerTime) look() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return
	}
	now := time.Now()
	if due := a.progress.Due(a.r.Deadline, now, a.r.Deadline.Sub(a.r.Start)); due.After(now) {
		a.timer.Reset(due.Sub(now))
		return
	}
	a.was = true
	a.late()
}

// stop ends the wait and says whether it was in time.
func (a *answerTime) stop() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	a.timer.Stop()
	return !a.was
}
