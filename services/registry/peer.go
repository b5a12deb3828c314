package registry

import (
	"bytes"
	"container/list"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/flix-lab/flix/services/lookup"
	"github.com/flix-lab/flix/services/lookup/eureka"
)

const (
	// batchMost and batchWindow bound a batch, as in the original: 250 items,
	// and half a second between two batches that are not full.
	batchMost   = 250
	batchWindow = 500 * time.Millisecond
	// queueMost bounds what waits for one peer; the oldest goes first.
	queueMost = 10_000
	// peerTimeout bounds one request to a peer.
	peerTimeout = 5 * time.Second
	// A peer that does not answer is tried again after retryFirst, doubled
	// each time up to retryMost, with jitter: never in a flood.
	retryFirst = time.Second
	retryMost  = 30 * time.Second
	// actGroup is told by a request of its own.
	actGroup = "group"
)

// task is something to tell a peer.
type task struct {
	action  string
	key     key
	dirty   eureka.Millis // of an instance that was cancelled
	expires time.Time
}

// taskKey makes a later task about the same take the place of an earlier one.
type taskKey struct {
	action string
	key    key
}

// States of a peer.
const (
	peerNew  = "new"     // nothing was sent yet
	peerOK   = "ok"      // it took the last batch
	peerAway = "failing" // it did not
	peerSelf = "self"    // it is this registry: a list may name everybody
)

// PeerInfo says how replication to a peer does.
type PeerInfo struct {
	URL string `json:"url"`
	// State is new, ok, failing, or self for this registry's own address.
	State string `json:"state"`
	// Queued items wait to be sent, Sent were, Dropped were not: too old, or
	// too many.
	Queued  int    `json:"queued"`
	Sent    uint64 `json:"sent"`
	Dropped uint64 `json:"dropped"`
	// Error of the last attempt, and since when it fails.
	Error string    `json:"error,omitempty"`
	Since time.Time `json:"since,omitzero"`
}

// peer sends to one other registry.
type peer struct {
	p     *peers
	url   string
	wake  chan struct{}
	ended chan struct{}
	once  sync.Once

	mu    sync.Mutex
	tasks map[taskKey]*list.Element
	order *list.List // of task
	info  PeerInfo
}

func newPeer(p *peers, base string) *peer {
	return &peer{
		p: p, url: base, wake: make(chan struct{}, 1), ended: make(chan struct{}),
		tasks: map[taskKey]*list.Element{}, order: list.New(), info: PeerInfo{URL: base, State: peerNew},
	}
}

func (n *peer) stop() { n.once.Do(func() { close(n.ended) }) }

// queue adds a task at the end, in the stead of one that says the same. A
// cancellation makes all that was to be told before pointless.
func (n *peer) queue(t task) {
	n.mu.Lock()
	if n.info.State == peerSelf {
		n.mu.Unlock()
		return
	}
	n.drop(t.action, t.key)
	switch t.action {
	case eureka.ActCancel:
		for _, a := range []string{eureka.ActRegister, eureka.ActHeartbeat, eureka.ActStatusUpdate, eureka.ActDeleteOverride} {
			n.drop(a, t.key)
		}
	case eureka.ActRegister:
		n.drop(eureka.ActHeartbeat, t.key)
	}
	n.tasks[taskKey{t.action, t.key}] = n.order.PushBack(t)
	for n.order.Len() > queueMost {
		old := n.order.Front().Value.(task)
		n.drop(old.action, old.key)
		n.info.Dropped++
	}
	n.mu.Unlock()
	n.signal()
}

func (n *peer) signal() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *peer) drop(action string, k key) {
	if e, ok := n.tasks[taskKey{action, k}]; ok {
		n.order.Remove(e)
		delete(n.tasks, taskKey{action, k})
	}
}

// take removes up to a batch of tasks from the queue.
func (n *peer) take(now time.Time) []task {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []task
	for e := n.order.Front(); e != nil && len(out) < batchMost; e = n.order.Front() {
		t := e.Value.(task)
		n.drop(t.action, t.key)
		if now.After(t.expires) {
			n.info.Dropped++
			continue
		}
		out = append(out, t)
	}
	return out
}

// giveBack puts tasks that were not sent in front again, but for those that
// something newer has taken the place of.
func (n *peer) giveBack(ts []task) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := len(ts) - 1; i >= 0; i-- {
		k := taskKey{ts[i].action, ts[i].key}
		_, newer := n.tasks[k]
		_, cancelled := n.tasks[taskKey{eureka.ActCancel, ts[i].key}]
		if !newer && !cancelled {
			n.tasks[k] = n.order.PushFront(ts[i])
		}
	}
}

func (n *peer) queued() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.order.Len()
}

// run sends batches until the peers' context ends. The first item after a
// pause goes at once; those that follow wait for the window or a full batch.
func (n *peer) run() {
	ctx, cancel := context.WithCancel(n.p.ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, n.stop)
	defer stop()
	var last time.Time
	delay := retryFirst
	for {
		select {
		case <-n.ended:
			return
		case <-n.wake:
		}
		for n.queued() > 0 {
			if n.queued() < batchMost && !n.pause(batchWindow-time.Since(last), true) {
				return
			}
			last = time.Now()
			err := n.send(ctx)
			n.outcome(err)
			if err == nil {
				delay = retryFirst
				continue
			}
			if !n.pause(delay/2+rand.N(delay), false) {
				return
			}
			delay = min(2*delay, retryMost)
		}
	}
}

// pause waits, no longer than until a batch is full if that matters; false
// when the peer is to end.
func (n *peer) pause(d time.Duration, full bool) bool {
	t := time.NewTimer(max(0, d))
	defer t.Stop()
	for {
		select {
		case <-n.ended:
			return false
		case <-t.C:
			return true
		case <-n.wake:
			if full && n.queued() >= batchMost {
				return true
			}
		}
	}
}

// outcome notes how the last attempt went, and logs when that changes.
func (n *peer) outcome(err error) {
	n.mu.Lock()
	was := n.info.State
	switch {
	case was == peerSelf:
	case err == nil:
		n.info.State, n.info.Error, n.info.Since = peerOK, "", time.Time{}
	default:
		n.info.State, n.info.Error = peerAway, err.Error()
		if was != peerAway {
			n.info.Since = n.p.s.deps.Clock()
		}
	}
	is := n.info.State
	n.mu.Unlock()
	switch log := n.p.s.log; {
	case is == was:
	case is == peerAway:
		log.Warn("a peer does not take what happens here; trying again", "peer", n.url, "err", err)
	case is == peerOK && was == peerAway:
		log.Info("a peer is back", "peer", n.url)
	case is == peerSelf:
		log.Info("a peer is this registry itself and is left out", "peer", n.url)
	}
}

// send tells the peer one batch. An error means that it will be tried again.
func (n *peer) send(ctx context.Context) error {
	tasks := n.take(n.p.s.deps.Clock())
	var (
		items []eureka.Replication
		sent  []task
	)
	for i, t := range tasks {
		if t.action == actGroup {
			if err := n.sendGroup(ctx, t); err != nil {
				n.giveBack(tasks[i:])
				n.giveBack(sent)
				return err
			}
			continue
		}
		if it, ok := n.p.s.store.item(t); ok {
			items, sent = append(items, it), append(sent, t)
		}
	}
	if len(items) == 0 {
		return nil
	}
	body, err := encodeBatch(items)
	if err != nil {
		return err
	}
	status, answer, err := n.call(ctx, http.MethodPost, "/peerreplication/batch/", body)
	switch {
	case err == nil && status/100 == 2:
	case err == nil && status/100 == 4 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout:
		// It will not take this batch the next time either.
		n.count(0, len(sent))
		return n.refusal(status, answer)
	default:
		n.giveBack(sent)
		if err == nil {
			err = n.refusal(status, answer)
		}
		return err
	}
	out, err := eureka.DecodeOutcomes(answer)
	if err != nil {
		return err
	}
	n.count(len(sent), 0)
	if len(out.List) == len(sent) {
		for i, o := range out.List {
			n.settle(sent[i], o)
		}
	}
	return nil
}

func (n *peer) refusal(status int, answer []byte) error {
	return fmt.Errorf("%s answered %d: %.200s", n.url, status, answer)
}

func (n *peer) count(sent, dropped int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.info.Sent += uint64(sent)
	n.info.Dropped += uint64(dropped)
	n.p.s.metrics.sent.Add(float64(sent))
}

// settle does what an item's outcome asks for: an instance that the peer does
// not know, or knows an older state of, is registered there; one of which it
// knows a newer state is taken over.
func (n *peer) settle(t task, o eureka.Outcome) {
	s := n.p.s
	switch {
	case o.Status == http.StatusNotFound && t.action == eureka.ActHeartbeat:
		n.queue(task{action: eureka.ActRegister, key: t.key, expires: s.deps.Clock().Add(s.patience(eureka.ActRegister, t.key))})
	case o.Status == http.StatusNotFound && (t.action == eureka.ActStatusUpdate || t.action == eureka.ActDeleteOverride):
		// It comes with the registration that the next heartbeat brings about.
	case o.Status == http.StatusConflict && o.Instance != nil:
		if mine := s.store.find(t.key.app, t.key.id); mine != nil && o.Instance.LastDirty > mine.LastDirty {
			if err := s.admit(o.Instance, t.key.app, true); err != nil {
				s.log.Warn("a peer's newer record cannot be taken", "peer", n.url, "id", t.key.id, "err", err)
			}
		}
	}
}

func (n *peer) sendGroup(ctx context.Context, t task) error {
	status, answer, err := n.call(ctx, http.MethodPut, "/asg/"+url.PathEscape(t.key.id)+"/status?value="+t.key.app, nil)
	if err == nil && status >= http.StatusInternalServerError {
		err = n.refusal(status, answer)
	}
	return err
}

// call sends one request as a peer.
func (n *peer) call(ctx context.Context, method, path string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, n.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set(headerPeer, "true")
	req.Header.Set(headerIdentity, "DefaultServer")
	req.Header.Set("Accept", eureka.JSON)
	if body != nil {
		req.Header.Set("Content-Type", eureka.JSON)
	}
	resp, err := n.p.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	if resp.Header.Get(lookup.HeaderEpoch) == n.p.s.store.epoch {
		n.isSelf()
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxCopy))
	return resp.StatusCode, b, err
}

// isSelf stops replication to this registry's own address, which would raise
// instances again that have left meanwhile.
func (n *peer) isSelf() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.info.State, n.info.Error, n.info.Since = peerSelf, "", time.Time{}
	n.tasks, n.order = map[taskKey]*list.Element{}, list.New()
}

func (n *peer) report() PeerInfo {
	n.mu.Lock()
	defer n.mu.Unlock()
	info := n.info
	info.Queued = n.order.Len()
	return info
}

// apiBase completes a registry's URL with the API's path if it has none.
func apiBase(s string) string {
	s = strings.TrimSuffix(s, "/")
	if u, err := url.Parse(s); err == nil && u.Path == "" {
		return s + "/eureka/v2"
	}
	return s
}
