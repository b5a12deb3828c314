package keystone

import (
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/flix-lab/flix/services/events"
)

// Session is a playback session as its reports tell it. Bytes are the sum over
// the reports this instance has seen; a player reports its rebuffering as the
// total so far, in seconds.
type Session struct {
	Session   string  `json:"session"`
	Title     string  `json:"title"`
	Member    string  `json:"member"`
	Region    string  `json:"region"`
	ISP       string  `json:"isp"`
	Appliance string  `json:"appliance"`
	Rung      string  `json:"rung"`
	PositionS float64 `json:"position_s"`
	// State is playing, stopped or failed.
	State     string    `json:"state"`
	Bytes     uint64    `json:"bytes"`
	RebufferS float64   `json:"rebuffer_s"`
	Updated   time.Time `json:"updated"`
}

// States of a session.
const (
	statePlaying = "playing"
	stateStopped = "stopped"
	stateFailed  = "failed"
)

// sessions keeps the sessions that reported last, at most cap of them; a new
// one pushes out the one that has been silent longest. Safe for concurrent use.
type sessions struct {
	mu    sync.Mutex
	cap   int
	byID  map[string]*list.Element
	order *list.List // of *Session, the last report first
}

func newSessions(capacity int) *sessions {
	return &sessions{cap: capacity, byID: make(map[string]*list.Element), order: list.New()}
}

// put takes a report. One that is older than what is known adds its bytes and
// changes nothing else.
func (s *sessions) put(_ context.Context, r record) (bool, error) {
	e := r.playback
	s.mu.Lock()
	defer s.mu.Unlock()
	el, ok := s.byID[e.Session]
	if !ok {
		if s.order.Len() >= s.cap {
			oldest := s.order.Back()
			delete(s.byID, oldest.Value.(*Session).Session)
			s.order.Remove(oldest)
		}
		el = s.order.PushFront(&Session{Session: e.Session})
		s.byID[e.Session] = el
	}
	v := el.Value.(*Session)
	v.Bytes += e.Bytes
	v.RebufferS = max(v.RebufferS, e.RebufferS)
	if e.At.Before(v.Updated) {
		return true, nil
	}
	s.order.MoveToFront(el)
	v.follow(e)
	return true, nil
}

func (v *Session) follow(e *events.PlaybackEvent) {
	v.Title, v.Member, v.Region, v.PositionS, v.Updated = e.Title, e.Member, e.Region, e.PositionS, e.At.UTC()
	for _, f := range []struct {
		to   *string
		from string
	}{{&v.ISP, e.ISP}, {&v.Appliance, e.Appliance}, {&v.Rung, e.Rung}} {
		if f.from != "" { // a report that says nothing of it changes nothing
			*f.to = f.from
		}
	}
	switch e.Kind {
	case "stop":
		v.State = stateStopped
	case "error":
		v.State = stateFailed
	default:
		v.State = statePlaying
	}
}

// list returns the sessions, the last report first.
func (s *sessions) list() []Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Session, 0, s.order.Len())
	for el := s.order.Front(); el != nil; el = el.Next() {
		out = append(out, *el.Value.(*Session))
	}
	return out
}
