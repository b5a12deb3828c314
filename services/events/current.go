package events

import (
	"context"

	"github.com/flix-lab/flix/services"
)

// CheckpointIsCurrent says whether the copies' group goes on no earlier than
// where the region's own group has got to: that the checkpoint knows all that
// was committed there. Counts alone do not tell: an old checkpoint of copies
// that are not all there yet may leave as much to handle.
func CheckpointIsCurrent(ctx context.Context, c HandoverConfig) (bool, error) {
	op := "events.CheckpointIsCurrent " + c.Group + " of " + c.Region
	if c.Region == "" || c.Group == "" || c.From == nil || c.To == nil || c.Tel == nil {
		return false, services.Errorf(services.Invalid, "%s: Region, Group, From, To and Tel are required", op)
	}
	from, err := connect("handover", c.From, c.FromDial, c.Tel)
	if err != nil {
		return false, services.Wrap(op, err)
	}
	defer from.close()
	to, err := connect("handover", c.To, c.ToDial, c.Tel)
	if err != nil {
		return false, services.Wrap(op, err)
	}
	defer to.close()
	for _, topic := range c.topics() {
		current, err := c.current(ctx, from, to, topic)
		if err != nil {
			return false, unreached(op, err)
		}
		if !current {
			return false, nil
		}
	}
	return true, nil
}

// current looks at one topic.
func (c HandoverConfig) current(ctx context.Context, from, to *cluster, topic string) (bool, error) {
	copyOf := ReplicaTopic(c.Region, topic)
	spans, err := from.spans(ctx, topic)
	if err != nil {
		return false, err
	}
	copies, err := to.spans(ctx, copyOf)
	if err != nil {
		return false, err
	}
	own, err := from.committed(ctx, c.Group, topic)
	if err != nil {
		return false, err
	}
	at, err := to.committed(ctx, ReplicaGroup(c.Region, c.Group), copyOf)
	if err != nil {
		return false, err
	}
	for part, committed := range own {
		if committed <= spans[place{topic, part}].start {
			continue // nothing that is still there was handled
		}
		next, err := to.sourceOffset(ctx, place{copyOf, part}, copies[place{copyOf, part}], at[part])
		if err != nil || next < committed {
			return false, err
		}
	}
	return true, nil
}

// sourceOffset is where a position in a copy lies in the source; -1 if nothing
// is there to tell.
func (c *cluster) sourceOffset(ctx context.Context, p place, holds span, at int64) (int64, error) {
	if holds.end <= holds.start {
		return -1, nil
	}
	at = max(at, holds.start)
	k, err := c.at(ctx, p, min(at, holds.end-1))
	if err != nil {
		return -1, err
	}
	src, _, ok := sourceOf(k)
	switch {
	case !ok:
		return -1, nil
	case at >= holds.end:
		return src.offset + 1, nil // behind the last that was copied
	}
	return src.offset, nil
}
