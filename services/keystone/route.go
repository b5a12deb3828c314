package keystone

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/events"
)

// record is an event on its way through the routes. Exactly one of the typed
// events is set, by the topic.
type record struct {
	topic    string
	key      string
	raw      json.RawMessage
	header   events.Header
	playback *events.PlaybackEvent
	title    *events.TitleEvent
	fill     *events.FillEvent
}

// decode reads an event of a topic. An event without an id or time cannot be
// told from its redelivery, and is malformed.
func decode(topic string, key, value []byte) (record, error) {
	r := record{topic: topic, key: string(key), raw: value}
	var err error
	switch topic {
	case events.TopicPlayback:
		r.playback = new(events.PlaybackEvent)
		err = json.Unmarshal(value, r.playback)
		r.header = r.playback.Header
		if err == nil && (r.playback.Session == "" || r.playback.Kind == "") {
			err = services.Errorf(services.Invalid, "it names no session or kind")
		}
	case events.TopicTitles:
		r.title = new(events.TitleEvent)
		err = json.Unmarshal(value, r.title)
		r.header = r.title.Header
	case events.TopicFill:
		r.fill = new(events.FillEvent)
		err = json.Unmarshal(value, r.fill)
		r.header = r.fill.Header
	default:
		err = services.Errorf(services.Invalid, "no such topic")
	}
	if err == nil && (r.header.ID == "" || r.header.At.IsZero()) {
		err = services.Errorf(services.Invalid, "it has no id or time")
	}
	if err != nil {
		return record{}, services.Wrap("event of "+topic, err)
	}
	return r, nil
}

// route is one sink's end of a topic.
type route struct {
	sink string
	// seen holds the ids the sink has had; it is one per sink, because a
	// record that one sink refused comes again for all.
	seen *events.Seen
	// put takes an event; done is false when there was nothing in it for the
	// sink. An error of kind Invalid is final; with any other, the record
	// comes again.
	put func(ctx context.Context, r record) (done bool, err error)
}

// plan lays the routes.
func (s *Server) plan(b *bookmarks) map[string][]route {
	to := func(sink string, put func(context.Context, record) (bool, error)) route {
		return route{sink: sink, seen: events.NewSeen(seenCapacity), put: put}
	}
	m := map[string][]route{
		events.TopicPlayback: {to("sessions", s.sessions.put), to("popularity", s.popularity.put), to("bookmarks", b.put)},
		events.TopicTitles:   {to("popularity", s.popularity.resize), to("cache", s.copies.put)},
		events.TopicFill:     {to("metrics", s.countFill)},
	}
	if s.archive != nil {
		for topic := range m {
			m[topic] = append(m[topic], to("archive", s.archive.put))
		}
	}
	return m
}

func (s *Server) countFill(_ context.Context, r record) (bool, error) {
	if r.fill.Kind != "stored" {
		return false, nil
	}
	source := "unknown"
	switch r.fill.Source {
	case "cache", "tier", "peer": // a label must not grow with what is sent
		source = r.fill.Source
	}
	s.filled.WithLabelValues(source).Add(float64(r.fill.Bytes))
	return true, nil
}

// handle puts one record into every sink of its topic, each for itself: one
// that fails does not keep the record from the others. With an error the
// record comes again, and only the sinks that have not had it take it then.
func (s *Server) handle(ctx context.Context, topic string, key, value []byte) error {
	r, err := decode(topic, key, value)
	if err != nil {
		s.routed.WithLabelValues(topic, "", "malformed").Inc()
		s.d.Tel.Log.WarnContext(ctx, "malformed event skipped", "topic", topic, "key", string(key), "error", err)
		return nil // it will not be better the next time
	}
	var errs []error
	for _, to := range s.routes[topic] {
		result, err := deliver(ctx, to, r)
		s.routed.WithLabelValues(topic, to.sink, result).Inc()
		switch {
		case result == resultRefused:
			s.d.Tel.Log.WarnContext(ctx, "event refused by its sink", "sink", to.sink, "event", r.header.ID, "error", err)
		case err != nil:
			errs = append(errs, services.Wrap("keystone "+to.sink, err))
		}
	}
	return errors.Join(errs...)
}

// What became of an event at a sink.
const (
	resultOK        = "ok"
	resultDuplicate = "duplicate"
	resultSkipped   = "skipped"
	resultRefused   = "refused"
	resultFailed    = "failed"
)

func deliver(ctx context.Context, to route, r record) (result string, err error) {
	if to.seen.Has(r.header.ID) {
		return resultDuplicate, nil
	}
	done, err := to.put(ctx, r)
	switch {
	case services.KindOf(err) == services.Invalid:
		result = resultRefused
	case err != nil:
		return resultFailed, err
	case done:
		result = resultOK
	default:
		result = resultSkipped
	}
	to.seen.Add(r.header.ID)
	return result, err
}

// seenCapacity bounds the ids a sink remembers: more than a consumer handles
// between two commits.
const seenCapacity = 2048
