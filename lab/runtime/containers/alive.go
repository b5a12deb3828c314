package containers

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// answerTime bounds a question that nobody gave a context for.
	answerTime = 5 * time.Second
	// aliveFor is how long the engine's answer to which hosts are alive is kept.
	// While a region moves that is asked dozens of times a second, and a list costs
	// the engine some 6 ms of processor time and the daemon as much.
	aliveFor = 250 * time.Millisecond
)

// alive is which hosts were alive when the engine was asked last.
type alive struct {
	// changes counts what the runtime has done to its containers: an answer from
	// before the last of them says nothing any more.
	changes atomic.Uint64

	mu    sync.Mutex // guards what follows, and is held while the engine is asked
	hosts map[string]bool
	at    time.Time
	after uint64 // changes when it was asked
}

// Hosts implements runtime.Runtime: a region is alive while a container of its
// own runs. What others do to the lab's containers shows after aliveFor.
func (r *Runtime) Hosts() map[string]bool {
	a := &r.alive
	a.mu.Lock()
	defer a.mu.Unlock()
	now, changes := time.Now(), a.changes.Load()
	if a.hosts != nil && a.after == changes && now.Sub(a.at) < aliveFor {
		return maps.Clone(a.hosts)
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	cs, err := r.containers(ctx)
	if err != nil {
		a.hosts = nil
		return map[string]bool{} // the engine is gone, and with it every host
	}
	a.hosts, a.at, a.after = map[string]bool{}, now, changes
	for _, c := range cs {
		a.hosts[c.host] = a.hosts[c.host] || c.running
	}
	return maps.Clone(a.hosts)
}

// changed forgets what the engine told of the containers: the runtime has
// started, stopped or removed some.
func (r *Runtime) changed() {
	r.alive.changes.Add(1)
	r.seen.forgetAll()
}
