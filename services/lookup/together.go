package lookup

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/flix-lab/flix/services/lookup/eureka"
)

// renewTogether renews every lease that is due, or will be early, by one
// request, where there are several and the registry knows how: a stock one does
// not. Those that it cannot renew so are left as they are, to be renewed or
// registered one by one.
func (c *Client) renewTogether(ctx context.Context, regs []*registration, early time.Duration) {
	if c.oneByOne.Load() {
		return
	}
	var (
		batch eureka.Batch
		held  []*registration
		dirty []int64
	)
	for _, r := range regs {
		if r.due() > early {
			continue
		}
		select {
		case r.turn <- struct{}{}:
		default: // being deregistered
			continue
		}
		r.mu.Lock()
		inst, was, ok := r.inst, r.dirty, r.current && !r.gone
		r.mu.Unlock()
		if !ok {
			<-r.turn
			continue
		}
		stamp := eureka.Num(was)
		batch.List = append(batch.List, eureka.Replication{App: strings.ToUpper(inst.App), ID: EncodeID(inst.ID), LastDirty: &stamp, Status: inst.Status, Action: eureka.ActHeartbeat})
		held, dirty = append(held, r), append(dirty, was)
	}
	defer func() {
		for _, r := range held {
			<-r.turn
		}
	}()
	if len(held) < 2 {
		return
	}
	body, err := json.Marshal(batch)
	if err != nil { // values have no way to fail
		return
	}
	begun := time.Now()
	resp, err := c.do(ctx, http.MethodPut, "/renewals", nil, body)
	if err != nil {
		return // said again, and louder, by the first that is renewed alone
	}
	if resp.status != http.StatusOK {
		c.oneByOne.Store(true)
		c.log.Info("the registry does not renew leases together: one by one from now on", "status", resp.status)
		return
	}
	out, err := eureka.DecodeOutcomes(resp.body)
	if err != nil || len(out.List) != len(held) {
		c.oneByOne.Store(true)
		c.log.Warn("the registry's answer to renewals cannot be read: one by one from now on", "err", err)
		return
	}
	for i, o := range out.List {
		if o.Status == http.StatusOK {
			held[i].renewed(dirty[i], begun.Add(c.cfg.Timing.LeaseRenewal.D()))
		} else {
			held[i].unknown(dirty[i])
		}
	}
}

// unknown notes that the registry does not know the state of that timestamp:
// what follows is a registration.
func (r *registration) unknown(dirty int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dirty == dirty && r.current {
		r.current = false
		r.settled = make(chan struct{})
	}
}
