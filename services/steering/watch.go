package steering

import (
	"context"
	"time"

	ccpb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

const (
	// retryFirst is the first delay before the stream is opened again; it
	// doubles up to Timing.RPCTimeout.
	retryFirst = 10 * time.Millisecond
	// gather is how long changes of routes are collected before the table is
	// built anew: a table costs its size, not the size of the change.
	gather = 10 * time.Millisecond
)

// follow keeps the stream from cache control open until ctx ends.
func (s *Server) follow(ctx context.Context) {
	delay := retryFirst
	for ctx.Err() == nil {
		whole, err := s.watch(ctx)
		if s.connected.Swap(false) {
			s.log.Warn("cache control is away; what is known ages", "err", err)
		}
		if whole {
			delay = retryFirst
		}
		retry := time.NewTimer(delay)
		select {
		case <-ctx.Done():
			retry.Stop()
		case <-retry.C:
		}
		delay = min(2*delay, s.deps.Timing.RPCTimeout.D())
	}
}

// watch reads one stream to its end and reports whether it gave a whole
// snapshot.
func (s *Server) watch(ctx context.Context) (whole bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	events := make(chan *ccpb.WatchEvent, 64)
	failed := make(chan error, 1)
	received := make(chan struct{})
	go func() {
		defer close(received)
		failed <- s.receive(ctx, events)
	}()
	defer func() { cancel(); <-received }()

	s.model.begin()
	build := time.NewTimer(gather)
	build.Stop()
	defer build.Stop()
	// Appliances report all the time: a stream as silent as a stale report is
	// as good as broken, whatever TCP thinks of it.
	silence := time.NewTimer(s.expiry)
	defer silence.Stop()
	waiting := false
	for {
		select {
		case ev := <-events:
			silence.Reset(s.expiry)
			if ev.GetSnapshotEnd() {
				s.model.end()
				s.model.build()
				whole = true
				s.ready.Store(true)
				s.settled.Store(time.Now().Add(s.expiry).UnixMilli())
				s.connected.Store(true)
				continue
			}
			if s.model.apply(ev, time.Now()) && !waiting {
				waiting = true
				build.Reset(gather)
			}
		case <-s.reload:
			s.model.relearn()
			s.model.build()
		case <-build.C:
			waiting = false
			s.model.build()
		case err := <-failed:
			s.model.build()
			return whole, err
		case <-silence.C:
			return whole, context.DeadlineExceeded
		}
	}
}

// receive passes the stream's events on until it ends.
func (s *Server) receive(ctx context.Context, events chan<- *ccpb.WatchEvent) error {
	stream, err := s.deps.CacheControl.Watch(ctx, &ccpb.WatchRequest{})
	if err != nil {
		return err
	}
	for {
		ev, err := stream.Recv()
		if err != nil {
			return err
		}
		select {
		case events <- ev:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
