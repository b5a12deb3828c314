package events

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// handleLanes handles the records of a poll in as many lanes as there are,
// those of a key in one of them, and returns the last one of each partition
// before the first that was not handled. What was handled after that comes
// again.
func (m *consumer) handleLanes(ctx context.Context, fetches kgo.Fetches) (done []*kgo.Record, err error) {
	type job struct {
		r  *kgo.Record
		ok bool
	}
	seed := maphash.MakeSeed()
	lanes := make([][]*job, m.cfg.Lanes)
	var parts []kgo.FetchTopicPartition
	var jobs [][]*job
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if len(p.Records) == 0 {
			return
		}
		all := make([]*job, len(p.Records))
		for i, r := range p.Records {
			all[i] = &job{r: r}
			n := maphash.Bytes(seed, r.Key) % uint64(len(lanes))
			lanes[n] = append(lanes[n], all[i])
		}
		m.setLag(p, p.Records[0].Offset)
		parts, jobs = append(parts, p), append(jobs, all)
	})
	var wg sync.WaitGroup
	errs := make([]error, len(lanes))
	for n, lane := range lanes {
		if len(lane) == 0 {
			continue
		}
		wg.Go(func() {
			for _, j := range lane {
				if errs[n] = m.handle(ctx, j.r); errs[n] != nil {
					return
				}
				j.ok = true
			}
		})
	}
	wg.Wait()
	for i, p := range parts {
		var last *kgo.Record
		for _, j := range jobs[i] {
			if !j.ok {
				break
			}
			last = j.r
		}
		if last != nil {
			m.setLag(p, last.Offset+1)
			done = append(done, last)
		}
	}
	return done, errors.Join(errs...)
}
