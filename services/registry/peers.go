package registry

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flix-lab/flix/services/lookup/eureka"
)

// peers are the other registries of the region: what clients say here is told
// to each of them, in batches, in order. There is no leader and no quorum: a
// registry answers from what it knows, and peers that were apart agree again
// by the instances' own heartbeats and dirty timestamps.
type peers struct {
	s    *Server
	http *http.Client

	mu    sync.Mutex
	nodes map[string]*peer
	ctx   context.Context // of Serve; nil before
	wg    sync.WaitGroup
}

func newPeers(s *Server) *peers {
	return &peers{s: s, nodes: map[string]*peer{}, http: &http.Client{
		Transport: &http.Transport{DialContext: s.deps.Dial, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute},
		Timeout:   peerTimeout,
		// A redirect would send what is meant for a peer to somebody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// start makes peers send until ctx ends; wait waits until they have ended.
func (p *peers) start(ctx context.Context) {
	p.mu.Lock()
	p.ctx = ctx
	p.mu.Unlock()
	p.refresh()
}

func (p *peers) wait() {
	p.wg.Wait()
	p.http.CloseIdleConnections()
}

// refresh takes over the peers there are now.
func (p *peers) refresh() {
	if p.s.deps.Peers == nil {
		return
	}
	want := map[string]bool{}
	for _, u := range p.s.deps.Peers() {
		want[apiBase(u)] = true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx == nil || p.ctx.Err() != nil {
		return
	}
	for u := range want {
		if p.nodes[u] != nil {
			continue
		}
		n := newPeer(p, u)
		p.nodes[u] = n
		p.wg.Go(n.run)
	}
	for u, n := range p.nodes {
		if !want[u] {
			n.stop()
			delete(p.nodes, u)
		}
	}
}

func (p *peers) all() []*peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]*peer, 0, len(p.nodes))
	for _, n := range p.nodes {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b *peer) int { return strings.Compare(a.url, b.url) })
	return out
}

// tell queues for every peer that something happened to an instance; what
// exactly is read when it is sent.
func (p *peers) tell(action string, k key) { p.tellFor(action, k, p.s.patience(action, k)) }

// tellFor is tell with another patience.
func (p *peers) tellFor(action string, k key, patience time.Duration) {
	nodes := p.all()
	if len(nodes) == 0 {
		return
	}
	t := task{action: action, key: k, expires: p.s.deps.Clock().Add(patience)}
	if action == eureka.ActCancel {
		t.dirty = p.s.store.leftAt(k)
	}
	for _, n := range nodes {
		n.queue(t)
	}
}

// tellGroup tells every peer that a scaling group is out of service, or back.
func (p *peers) tellGroup(name string, enabled bool) {
	value := "DISABLED"
	if enabled {
		value = "ENABLED"
	}
	for _, n := range p.all() {
		n.queue(task{action: actGroup, key: key{value, name}, expires: p.s.deps.Clock().Add(wordKept)})
	}
}

// wordKept is how long an operator's word waits for a peer that is away. The
// original gives up after 30 s, and the peers differ until somebody notices.
const wordKept = 10 * time.Minute

// patience is how long something is worth telling. The next heartbeat
// supersedes one; a cancelled instance's lease has run out at the peer by then.
func (s *Server) patience(action string, k key) time.Duration {
	interval, duration := s.store.leaseTimes(k)
	switch action {
	case eureka.ActHeartbeat, eureka.ActRegister:
		return max(interval, batchWindow)
	case eureka.ActCancel:
		return max(duration, batchWindow)
	}
	return wordKept
}

func (s *store) leaseTimes(k key) (interval, duration time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.leases[k]; l != nil {
		return l.interval, l.duration
	}
	return s.timing.LeaseRenewal.D(), s.timing.LeaseDuration.D()
}

func (s *store) leftAt(k key) eureka.Millis {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, _, _ := s.left.get(k)
	return d.dirty
}

// item is what a task says now; false when it has become pointless: the
// instance has left, or a cancelled one is back.
func (s *store) item(t task) (eureka.Replication, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.leases[t.key]
	it := eureka.Replication{App: t.key.app, ID: t.key.id, Action: t.action}
	if t.action == eureka.ActCancel {
		dirty := eureka.Num(t.dirty)
		it.LastDirty = &dirty // ours only: a peer that knows more keeps it
		return it, l == nil
	}
	if l == nil {
		return it, false
	}
	dirty := eureka.Num(l.inst.LastDirty)
	it.LastDirty, it.Status = &dirty, l.inst.Status
	switch o := s.overrides[t.key]; {
	case t.action == eureka.ActRegister:
		it.Instance = l.inst
	case t.action == eureka.ActStatusUpdate && o == "", t.action == eureka.ActDeleteOverride && o != "":
		return it, false // the operator has changed their mind since
	case t.action == eureka.ActHeartbeat && o != "":
		it.OverriddenStatus = o
	case t.action == eureka.ActStatusUpdate:
		it.Status = o
	}
	return it, true
}

// report says how each peer does.
func (p *peers) report() []PeerInfo {
	out := []PeerInfo{}
	for _, n := range p.all() {
		out = append(out, n.report())
	}
	return out
}
