package objects

import (
	"net/http"
	"sync"
)

// gate lets requests in until it is shut, and then waits for those inside.
// http.Server.Close does not: it cuts connections and leaves handlers alone.
type gate struct {
	mu     sync.Mutex // no request enters after closed is set
	closed bool
	inside sync.WaitGroup
}

// enter admits a request, unless the gate is shut. Whoever entered leaves.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.inside.Add(1)
	return true
}

func (g *gate) leave() { g.inside.Done() }

// shut lets nobody in any more and returns when everybody has left.
func (g *gate) shut() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.inside.Wait()
}

// refuse answers a request that came too late.
func refuse(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	w.WriteHeader(http.StatusServiceUnavailable)
}
