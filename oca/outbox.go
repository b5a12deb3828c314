package oca

import (
	"sync"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

const (
	// epochShift leaves room for a million messages between two epochs.
	epochShift = 20
	// maxOutbox bounds what waits for cache control. When it overflows the
	// stream starts anew, and its Hello says everything.
	maxOutbox = 1024
)

// outbox numbers the messages to cache control and holds them until the
// stream takes them. Without a stream it holds nothing: the next Hello tells
// the state. Safe for concurrent use.
type outbox struct {
	note chan struct{} // has a token when there is something to take

	mu       sync.Mutex
	counter  uint64
	open     bool
	overflow bool
	queue    []*pb.ApplianceMessage
}

func newOutbox(counter uint64) *outbox {
	return &outbox{note: make(chan struct{}, 1), counter: counter}
}

// start begins a stream whose first message is hello.
func (o *outbox) start(hello *pb.Hello) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open, o.overflow, o.queue = true, false, nil
	o.push(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Hello{Hello: hello}})
}

// stop ends it.
func (o *outbox) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open, o.queue = false, nil
}

// send queues a message if a stream is open.
func (o *outbox) send(m *pb.ApplianceMessage) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.push(m)
}

func (o *outbox) push(m *pb.ApplianceMessage) {
	if !o.open || o.overflow {
		return
	}
	if len(o.queue) >= maxOutbox {
		o.overflow, o.queue = true, nil
	} else {
		o.counter++
		m.Counter = o.counter
		o.queue = append(o.queue, m)
	}
	select {
	case o.note <- struct{}{}:
	default:
	}
}

// take returns what is queued; ok is false when messages were lost.
func (o *outbox) take() (q []*pb.ApplianceMessage, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	q, o.queue = o.queue, nil
	return q, !o.overflow
}

// changed tells cache control what the store gained or lost.
func (s *Server) changed(c change) {
	if len(c.held) > 0 {
		s.outbox.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Held{Held: &pb.Held{Files: c.held, Source: c.source, Filled: c.filled.message()}}})
	}
	if len(c.removed) > 0 {
		s.metrics.removed.WithLabelValues(c.reason).Add(float64(len(c.removed)))
		s.outbox.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Removed{Removed: &pb.Removed{Files: c.removed, Reason: c.reason}}})
	}
}
