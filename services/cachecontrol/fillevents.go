package cachecontrol

import (
	"context"
	"fmt"
	"sync"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/events"
)

// maxEvents bounds the fill events that wait for the pipeline. They inform;
// what they say is in the appliances' state too, so the newest are dropped
// (and counted) rather than the control channel held up.
const maxEvents = 4096

// eventQueue carries fill events to the pipeline.
type eventQueue struct {
	d       Deps
	metrics *metrics
	note    chan struct{} // has a token when the queue is not empty

	mu    sync.Mutex
	queue []events.FillEvent
}

func newEventQueue(d Deps, m *metrics) *eventQueue {
	return &eventQueue{d: d, metrics: m, note: make(chan struct{}, 1)}
}

// alarm queues an event about a site.
func (q *eventQueue) alarm(site, reason string) {
	now := q.d.Clock()
	q.queueUp(events.FillEvent{
		Header: events.Header{ID: fmt.Sprintf("fill/%s/%s/uneven/%d", q.d.Region, site, now.UnixNano()), At: now, Region: q.d.Region, Instance: q.d.Instance},
		Kind:   "uneven", Site: site, Reason: reason,
	})
}

// fill queues an event about a file of an appliance. The appliance's counter
// makes its id unique.
func (q *eventQueue) fill(a *appliance, kind string, f *pb.HeldFile, source, reason string) {
	ev := events.FillEvent{
		Header: events.Header{
			ID: fmt.Sprintf("fill/%s/%d/%s/%s/%d/%s", a.id, a.counter, kind, f.GetTitleId(), f.GetVersion(), f.GetPath()), At: q.d.Clock(),
			Region: q.d.Region, Instance: q.d.Instance,
		},
		Kind: kind, Appliance: a.id, Title: f.GetTitleId(), Path: f.GetPath(), Bytes: f.GetSize(), Source: source, Reason: reason,
	}
	q.queueUp(ev)
}

func (q *eventQueue) queueUp(ev events.FillEvent) {
	if q.d.Events == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queue) >= maxEvents {
		q.metrics.eventsDropped.Inc()
		return
	}
	q.queue = append(q.queue, ev)
	select {
	case q.note <- struct{}{}:
	default:
	}
}

func (q *eventQueue) take() []events.FillEvent {
	q.mu.Lock()
	defer q.mu.Unlock()
	batch := q.queue
	q.queue = nil
	return batch
}

func (q *eventQueue) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-q.note:
		}
		for _, ev := range q.take() {
			call, cancel := context.WithTimeout(ctx, q.d.Timing.RPCTimeout.D())
			err := q.d.Events.Send(call, events.TopicFill, ev.Appliance, ev)
			cancel()
			if err != nil {
				q.metrics.eventsFailed.Inc()
				q.d.Tel.Log.Debug("cannot send a fill event", "error", err)
				continue
			}
			q.metrics.eventsSent.Inc()
		}
	}
}
