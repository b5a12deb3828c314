package cachecontrol

import (
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// watchGap is the shortest time between two batches to one subscriber. It
// lets the changes of a busy appliance fold into one message.
const watchGap = 10 * time.Millisecond

// Keys of what a subscriber has to be told; snapshotEnd is told in its place.
const (
	applianceMark = "a/"
	assetMark     = "t/"
	snapshotEnd   = "end"
)

func applianceKey(id string) string { return applianceMark + id }
func assetKey(title string) string  { return assetMark + title }

// subscriber remembers what changed since the last batch, by key and not by
// event: however slow it reads, it costs no more than a key per appliance and
// title. Guarded by the server's lock.
type subscriber struct {
	pending map[string]struct{}
	queue   []string
	note    chan struct{}
}

func (w *subscriber) mark(key string) {
	if _, ok := w.pending[key]; ok {
		return
	}
	w.pending[key] = struct{}{}
	w.queue = append(w.queue, key)
	select {
	case w.note <- struct{}{}:
	default:
	}
}

// notify tells every subscriber that something changed. Called with the lock
// held.
func (s *Server) notify(key string) {
	for w := range s.subscribers {
		w.mark(key)
	}
}

// Watch implements the stream of appliances and assets. It begins when the store
// has been read.
func (s *Server) Watch(_ *pb.WatchRequest, stream grpc.ServerStreamingServer[pb.WatchEvent]) error {
	select {
	case <-s.whole:
	case <-s.lifetime.Done():
		return s.stopping()
	case <-stream.Context().Done():
		return nil
	}
	w := s.subscribe()
	defer s.unsubscribe(w)
	for {
		select {
		case <-s.lifetime.Done():
			return s.stopping()
		case <-stream.Context().Done():
			return nil
		case <-w.note:
		}
		for _, ev := range s.takeEvents(w) {
			if err := stream.Send(ev); err != nil {
				return err
			}
		}
		if !sleep(stream.Context(), watchGap) {
			return nil
		}
	}
}

func (s *Server) stopping() error {
	return services.Errorf(services.Unavailable, "cache control %s is stopping", s.d.Instance)
}

// subscribe starts a subscriber with everything known, then the end mark.
func (s *Server) subscribe() *subscriber {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &subscriber{pending: map[string]struct{}{}, note: make(chan struct{}, 1)}
	for title := range s.shown {
		w.mark(assetKey(title))
	}
	for title := range s.withheld {
		w.mark(assetKey(title))
	}
	for id := range s.appliances {
		w.mark(applianceKey(id))
	}
	w.mark(snapshotEnd)
	s.subscribers[w] = struct{}{}
	return w
}

func (s *Server) unsubscribe(w *subscriber) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.subscribers, w)
}

// takeEvents returns what changed, as it is now.
func (s *Server) takeEvents(w *subscriber) []*pb.WatchEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	events := make([]*pb.WatchEvent, 0, len(w.queue))
	for _, key := range w.queue {
		events = append(events, s.eventOf(key))
	}
	w.queue = nil
	clear(w.pending)
	return events
}

func (s *Server) eventOf(key string) *pb.WatchEvent {
	if id, ok := strings.CutPrefix(key, applianceMark); ok {
		if a := s.appliances[id]; a != nil {
			return &pb.WatchEvent{State: a.view()}
		}
		return &pb.WatchEvent{Gone: id}
	}
	if title, ok := strings.CutPrefix(key, assetMark); ok {
		if a := s.shown[title]; a != nil {
			return &pb.WatchEvent{Asset: a}
		}
		// Whoever is asked for it shall say why nobody plays it.
		return &pb.WatchEvent{Waiting: s.waits(s.planner.cat.assets[title], s.d.Clock())}
	}
	return &pb.WatchEvent{SnapshotEnd: true}
}
