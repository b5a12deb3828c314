package evcache

import (
	"context"

	"github.com/flix-lab/flix/services/events"
)

// Sender takes events; an events.Producer is one. Send must not block.
type Sender interface {
	Send(ctx context.Context, topic, key string, event any) error
}

// The kinds of CacheEvent.
const (
	verbSet        = "set"
	verbDelete     = "delete"
	verbTouch      = "touch"
	verbInvalidate = "invalidate"
)

// announce tells the other regions of a write, as far as they shall know.
func (c *Client) announce(ctx context.Context, w write) {
	verb := w.verb
	switch r := Replication(c.repl.Load()); {
	case c.cfg.Events == nil, r == ReplicateNone, r == ReplicateDeletes && verb != verbDelete, r == Invalidate && verb == verbTouch:
		return
	case r == Invalidate && verb == verbSet:
		verb = verbInvalidate
	}
	c.tell(ctx, "replicate", events.TopicCacheWrites, events.CacheEvent{Kind: verb, Key: canonicalKey(c.cfg.Prefix, w.key), Expires: w.expires})
}

// report tells the repairers of a zone's failure.
func (c *Client) report(ctx context.Context, w write, zone string) {
	if c.cfg.Events != nil {
		c.tell(ctx, "repair", events.TopicCacheRepairs, events.CacheEvent{Kind: w.verb, Key: canonicalKey(c.cfg.Prefix, w.key), Expires: w.expires, Zone: zone})
	}
}

func (c *Client) tell(ctx context.Context, what, topic string, e events.CacheEvent) {
	e.Header = events.NewHeader(ctx, c.cfg.Tel)
	if err := c.cfg.Events.Send(ctx, topic, e.Key, e); err != nil {
		c.metrics.told.WithLabelValues(what, "lost").Inc()
		c.cfg.Tel.Log.Debug("a cache write is told to nobody", "what", what, "key", e.Key, "error", err)
		return
	}
	c.metrics.told.WithLabelValues(what, "ok").Inc()
}
