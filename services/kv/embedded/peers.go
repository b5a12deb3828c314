package embedded

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/cockroachdb/pebble"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// peer is what is known of the store of another region; its exported fields
// are kept in the database.
type peer struct {
	// StoreID of the peer when it was last reached.
	StoreID string `json:"store_id"`
	// Acked is the log position up to which the peer has everything, once it
	// is not Scanning any more.
	Acked uint64 `json:"acked"`
	// Scanning says that the peer still has to get cells written before Acked;
	// Cursor is the last key of them that it has.
	Scanning bool   `json:"scanning,omitempty"`
	Cursor   []byte `json:"cursor,omitempty"`

	name string
	// generation counts streams and restarts of the scan: what was sent before
	// the last of them does not count any more.
	generation int
}

// replicator carries this region's writes to its peers.
type replicator struct {
	region string
	store  *store
	clock  *clock
	dial   services.DialFunc
	listed func() map[string]string
	tel    *telemetry.Telemetry
	timing topology.Timing
	maxLog uint64

	appended broadcast // a write was committed, or a scan is due
	acked    broadcast // a peer record changed
	hurried  broadcast // a write is awaited
	wake     chan struct{}

	mu sync.Mutex
	// head is the position of the last write; trimmed is up to where the log
	// has been dropped.
	head, trimmed uint64
	// awaited is the last write that somebody waits for a peer to have.
	awaited uint64
	peers   map[string]*peer
}

// load reads the peer records and finds the end of the log.
func (l *replicator) load() error {
	lower, upper := kindRange(kindPeer)
	it, err := l.store.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		p := &peer{name: string(it.Key()[1:])}
		if err = json.Unmarshal(it.Value(), p); err != nil {
			err = fmt.Errorf("record of peer %s: %w", p.name, err)
		}
		l.peers[p.name] = p
		l.head = max(l.head, p.Acked)
	}
	if cerr := it.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	last, err := l.lastEntry()
	l.head = max(l.head, last)
	return err
}

// current lists the configured peers, region → address.
func (l *replicator) current() map[string]string {
	peers := maps.Clone(l.listed())
	delete(peers, l.region)
	maps.DeleteFunc(peers, func(_, addr string) bool { return addr == "" })
	return peers
}

// nudge makes run look at the configured peers now.
func (l *replicator) nudge() {
	select {
	case l.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// know returns the record of a peer, made with a full scan due when it is new.
func (l *replicator) know(name string) (*peer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p, ok := l.peers[name]; ok {
		return p, nil
	}
	p := &peer{name: name}
	l.peers[name] = p // from now on writes are logged
	return p, l.restartScan(p)
}

// restartScan makes a peer get every cell, then the log from here on. The
// caller holds mu.
func (l *replicator) restartScan(p *peer) error {
	p.Acked, p.Scanning, p.Cursor = l.head, true, nil
	p.generation++
	l.appended.broadcast() // a stream under way looks whether it is outdated
	return l.save(p)
}

// save keeps a peer record; the caller holds mu. Losing the last ones in a
// crash means sending again what the peer has, no more, so nothing waits for
// it.
func (l *replicator) save(p *peer) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := l.store.db.Set(peerKey(p.name), b, pebble.NoSync); err != nil {
		return err
	}
	l.acked.broadcast()
	return nil
}

// sending is a running sender.
type sending struct {
	addr   string
	cancel context.CancelFunc
}

// firstPoll is the pause between the first two looks at the configured peers;
// it doubles up to the interval of registry fetches.
const firstPoll = 10 * time.Millisecond

// run keeps one sender per configured peer until ctx ends, then waits for
// them.
func (l *replicator) run(ctx context.Context) error {
	running := map[string]sending{}
	var wg sync.WaitGroup
	defer wg.Wait()
	pause := firstPoll
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
		case <-timer.C:
			pause = min(2*pause, max(l.timing.RegistryFetch.D(), firstPoll))
			timer.Reset(pause)
		}
		want := l.current()
		for name, s := range running {
			if want[name] != s.addr {
				s.cancel()
				delete(running, name)
			}
		}
		for name, addr := range want {
			if _, ok := running[name]; ok {
				continue
			}
			p, err := l.know(name)
			if err != nil {
				return err
			}
			sctx, cancel := context.WithCancel(ctx)
			running[name] = sending{addr: addr, cancel: cancel}
			wg.Go(func() { l.send(sctx, p, addr) })
		}
	}
}
