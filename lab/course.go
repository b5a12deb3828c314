package lab

import (
	"context"
	"sync"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

// course is a move of a region that is under way. It outlives the command that
// asked for it: half a move is worse than either end. Whoever asks for the same
// goes with it to its end; who wants it undone says so (see CancelMove).
type course struct {
	verb, region string
	cancel       context.CancelFunc
	// done is closed when rep and err are there.
	done chan struct{}
	rep  control.Failover
	err  error

	mu     sync.Mutex
	along  map[*companion]struct{}
	undone bool // somebody wanted it undone: it is no move to go along with
}

// companion is a command that waits for a course.
type companion struct {
	ctx  context.Context
	tell control.Progress
}

// tell tells everybody who is there.
func (c *course) tell(e control.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for x := range c.along {
		if x.ctx.Err() == nil {
			x.tell(e)
		}
	}
}

// join has a command hear of the course; leave ends that, and nothing is told
// after it. A command that wants to hear nothing is none.
func (c *course) join(ctx context.Context, p control.Progress) (leave func()) {
	if p == nil {
		return func() {}
	}
	x := &companion{ctx, p}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.along[x] = struct{}{}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.along, x)
	}
}

// forsaken says that no command waits for it.
func (c *course) forsaken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for x := range c.along {
		if x.ctx.Err() == nil {
			return false
		}
	}
	return true
}

// unwanted says that it is being undone.
func (c *course) unwanted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.undone
}

// await waits until a course that is being undone is over, to begin anew then.
func (c *course) await(ctx context.Context, p control.Progress) error {
	if p != nil {
		p(control.Event{At: time.Now().UTC(), Kind: c.verb + ".note", Subject: c.region, Text: "the one before is being undone: this one begins when it is"})
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// follow hears of a course until it is over.
func (c *course) follow(ctx context.Context, p control.Progress) (control.Failover, error) {
	if p != nil {
		p(control.Event{At: time.Now().UTC(), Kind: c.verb + ".note", Subject: c.region, Text: "the command that began it is gone: this one goes along"})
	}
	leave := c.join(ctx, p)
	defer leave()
	select {
	case <-c.done:
		return c.rep, c.err
	case <-ctx.Done():
		return control.Failover{}, ctx.Err()
	}
}

// embark makes a move the one that is under way: its context ends with the
// daemon, or when it is cancelled. The caller holds the verb and calls land.
func (l *Lab) embark(ctx context.Context, verb, region string, p control.Progress) (out context.Context, c *course, land func(control.Failover, error)) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	forget := func() bool { return true }
	if l.life != nil {
		forget = context.AfterFunc(l.life, cancel)
	}
	c = &course{verb: verb, region: region, cancel: cancel, done: make(chan struct{}), along: map[*companion]struct{}{}}
	leave := c.join(ctx, p)
	l.mu.Lock()
	l.course, l.busyCtx = c, out
	l.mu.Unlock()
	return out, c, func(rep control.Failover, err error) {
		l.mu.Lock()
		l.course = nil
		l.mu.Unlock()
		leave()
		forget()
		cancel()
		c.rep, c.err = rep, err
		close(c.done)
	}
}

// underway is the move that is under way, or nil.
func (l *Lab) underway() *course {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.course
}

// CancelMove implements control.Engine: the move that is under way is undone, as
// when a play fails in it. It returns when that is over.
func (l *Lab) CancelMove(ctx context.Context, r control.FailoverRequest) (control.Failover, error) {
	c := l.underway()
	if c == nil || r.Region != "" && c.region != r.Region {
		return control.Failover{}, services.Errorf(services.NotFound, "no region moves").WithRemedy("what was done is in: flix failover status")
	}
	c.mu.Lock()
	c.undone = true
	c.mu.Unlock()
	c.cancel()
	select {
	case <-c.done:
		return c.rep, nil
	case <-ctx.Done():
		return control.Failover{}, ctx.Err()
	}
}
