package cachecontrol

import (
	"context"
	"encoding/json"
	"time"

	"github.com/flix-lab/flix/services/kv"
)

// measureEvery is how many syncs go by between two readings of popularity:
// that changes by the hour where reports change by the second.
const measureEvery = 8

// measure reads how much each region watches each title, as the stream pipeline
// wrote it. An item that cannot be read is skipped and counted.
func (s *Server) measure(ctx context.Context) error {
	s.mu.Lock()
	regions := s.declared.RegionNames()
	s.mu.Unlock()
	for _, region := range regions {
		items, err := s.scan(ctx, kv.Popularity, region)
		if err != nil {
			return err
		}
		fresh := map[string]measured{}
		for _, it := range items {
			var m measured
			if err := json.Unmarshal(it.Value, &m); err != nil || m.Forecast < 0 {
				s.metrics.unreadable.Inc()
				s.d.Tel.Log.Error("a title's popularity in the store is unreadable", "title", it.Sort, "region", region, "error", err)
				continue
			}
			fresh[it.Sort] = m
		}
		s.update(func(time.Time) { s.planner.measure(region, fresh) })
	}
	return nil
}

// measure takes measurements of a region; a change of the order is planned by
// the next plan.
func (p *planner) measure(region string, fresh map[string]measured) {
	f := p.feeds[region]
	if f == nil {
		return
	}
	if f.measure(p.cat, fresh, p.timing.FillWindow.D()) {
		f.stale = true
	}
}
