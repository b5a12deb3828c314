package mariadb

import (
	"context"
	"database/sql"
	"sync"
	"time"
)

// seen is what a look at all servers has shown.
type seen struct {
	own view
	ok  bool // own answered
	// peers that have answered of late.
	peers map[string]view
}

// leader is the newest promotion that anybody knows of.
func (s seen) leader() promotion {
	lead := s.own.last()
	for _, v := range s.peers {
		if p := v.last(); p.newer(lead) {
			lead = p
		}
	}
	return lead
}

// peer is another region's server. It is looked at once at a time: while it is
// silent, nobody but that look waits for it.
type peer struct {
	db *sql.DB

	mu sync.Mutex
	// done is closed when the look under way has ended; nil without one.
	done chan struct{}
	// view of the last look that was answered, which began at.
	view view
	at   time.Time
	// looks are waited for by close.
	looks  sync.WaitGroup
	cancel context.CancelFunc
}

func (p *peer) close() error {
	p.mu.Lock()
	if p.cancel != nil {
		p.cancel()
	}
	p.mu.Unlock()
	p.looks.Wait()
	return p.db.Close()
}

// begin starts a look unless there is one, and returns a channel that is closed
// at its end.
func (p *peer) begin(timeout time.Duration) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done != nil {
		return p.done
	}
	// It goes on when its first caller does not wait any longer.
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	done := make(chan struct{})
	p.done, p.cancel = done, cancel
	p.looks.Go(func() {
		defer cancel()
		start := time.Now()
		v, err := look(ctx, p.db)
		p.mu.Lock()
		defer p.mu.Unlock()
		if err == nil {
			p.view, p.at = v, start
		}
		p.done = nil
		close(done)
	})
	return done
}

// last is the view of a look that began no longer ago than age.
func (p *peer) last(age time.Duration) (view, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.view, !p.at.IsZero() && time.Since(p.at) <= age
}

// graceShare of the RPC timeout is how long a step waits for peers.
func (k *Keeper) grace() time.Duration { return k.cfg.Timing.RPCTimeout.D() / graceShare }

// look asks all servers for their views at once, and waits for the peers for a
// while: no longer than one call may take. A peer that has not answered by then
// counts with what it said within the time of a call, or not at all: a region
// that is cut off holds up nobody else's promotion.
func (k *Keeper) look(ctx context.Context, wait time.Duration) seen {
	timeout := k.cfg.Timing.RPCTimeout.D()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s := seen{peers: map[string]view{}}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	peers := k.connect()
	var looks []<-chan struct{}
	for _, p := range peers {
		looks = append(looks, p.begin(timeout))
	}
	v, err := look(ctx, k.read)
	s.own, s.ok = v, err == nil
	if err != nil {
		k.cfg.Tel.Log.Debug("own server", "err", err)
	}
	for _, done := range looks {
		select {
		case <-done:
			continue
		case <-timer.C:
		case <-ctx.Done():
		}
		break // time is over for all
	}
	for region, p := range peers {
		if v, ok := p.last(timeout); ok {
			s.peers[region] = v
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen = s
	return s
}

// connect makes pools to new peers; it waits for nothing.
func (k *Keeper) connect() map[string]*peer {
	nodes := k.cfg.Nodes()
	k.mu.Lock()
	defer k.mu.Unlock()
	out := map[string]*peer{}
	for region, addr := range nodes {
		if region == k.cfg.Region || addr == "" {
			continue
		}
		if k.peers[region] == nil {
			db, err := k.target(fixed(k.cfg.Nodes, region)).open()
			if err != nil { // only wrong settings, which would have failed before
				k.cfg.Tel.Log.Error("peer", "region", region, "err", err)
				continue
			}
			k.peers[region] = &peer{db: db}
		}
		out[region] = k.peers[region]
	}
	return out
}

// peer returns the pool to a region's server, nil if it has no address.
func (k *Keeper) peer(region string) *sql.DB {
	if p := k.connect()[region]; p != nil {
		return p.db
	}
	return nil
}
