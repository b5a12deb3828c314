package events

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

// HandoverConfig names a group of a region and where its copies lie.
type HandoverConfig struct {
	// Region whose group is meant, and the group there.
	Region, Group string
	// Topics of the region; nil for ReplicatedTopics().
	Topics []string
	// From returns host:port of that region's brokers; only ReturnOffsets asks
	// them.
	From     func(context.Context) ([]string, error)
	FromDial services.DialFunc
	// To returns host:port of the brokers that hold the copies.
	To     func(context.Context) ([]string, error)
	ToDial services.DialFunc
	// Tel are the instance's instruments.
	Tel *telemetry.Telemetry
}

// Position is where a group goes on in one partition.
type Position struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	// Offset of the next record to handle.
	Offset int64 `json:"offset"`
	// Waiting is how many records lie from there on.
	Waiting int64 `json:"waiting"`
}

// TranslateOffsets tells where a lost region's group goes on in the copies of
// its topics: at the last checkpoint, or at the oldest record where there is
// none. It asks the copies' brokers only. A consumer of ReplicaGroup needs no
// more than to begin: it is there that it goes on.
func TranslateOffsets(ctx context.Context, c HandoverConfig) ([]Position, error) {
	op := "events.TranslateOffsets " + c.Group + " of " + c.Region
	if c.Region == "" || c.Group == "" || c.To == nil || c.Tel == nil {
		return nil, services.Errorf(services.Invalid, "%s: Region, Group, To and Tel are required", op)
	}
	to, err := connect("handover", c.To, c.ToDial, c.Tel)
	if err != nil {
		return nil, services.Wrap(op, err)
	}
	defer to.close()
	var out []Position
	for _, topic := range c.topics() {
		copyOf := ReplicaTopic(c.Region, topic)
		spans, err := to.spans(ctx, copyOf)
		if err != nil {
			return nil, unreached(op, err)
		}
		at, err := to.committed(ctx, ReplicaGroup(c.Region, c.Group), copyOf)
		if err != nil {
			return nil, unreached(op, err)
		}
		for part := int32(0); int(part) < len(spans); part++ {
			s := spans[place{copyOf, part}]
			from := max(at[part], s.start)
			out = append(out, Position{Topic: copyOf, Partition: part, Offset: from, Waiting: max(0, s.end-from)})
		}
	}
	return out, nil
}

// Progress tells how far the group has got in its own topics, at the brokers of
// From, and how many members it has. A group without members has committed all
// that it has handled.
func Progress(ctx context.Context, c HandoverConfig) (positions []Position, members int, err error) {
	op := "events.Progress " + c.Group + " of " + c.Region
	if c.Region == "" || c.Group == "" || c.From == nil || c.Tel == nil {
		return nil, 0, services.Errorf(services.Invalid, "%s: Region, Group, From and Tel are required", op)
	}
	from, err := connect("handover", c.From, c.FromDial, c.Tel)
	if err != nil {
		return nil, 0, services.Wrap(op, err)
	}
	defer from.close()
	groups, err := from.adm.DescribeGroups(ctx, c.Group)
	if err != nil {
		return nil, 0, unreached(op, err)
	}
	for _, topic := range c.topics() {
		spans, err := from.spans(ctx, topic)
		if err != nil {
			return nil, 0, unreached(op, err)
		}
		at, err := from.committed(ctx, c.Group, topic)
		if err != nil {
			return nil, 0, unreached(op, err)
		}
		for part := int32(0); int(part) < len(spans); part++ {
			s := spans[place{topic, part}]
			next := max(at[part], s.start)
			positions = append(positions, Position{Topic: topic, Partition: part, Offset: next, Waiting: max(0, s.end-next)})
		}
	}
	return positions, len(groups[c.Group].Members), nil
}

// ReturnOffsets tells a region that is back how far another one has handled
// its events meanwhile: the group there goes on behind them. It must not have
// members when this is called (services.Conflict if it has), nor should
// ReplicaGroup any more. Positions never go back. It returns those that it
// moved.
func ReturnOffsets(ctx context.Context, c HandoverConfig) ([]Position, error) {
	op := "events.ReturnOffsets " + c.Group + " of " + c.Region
	if c.Region == "" || c.Group == "" || c.From == nil || c.To == nil || c.Tel == nil {
		return nil, services.Errorf(services.Invalid, "%s: Region, Group, From, To and Tel are required", op)
	}
	from, err := connect("handover", c.From, c.FromDial, c.Tel)
	if err != nil {
		return nil, services.Wrap(op, err)
	}
	defer from.close()
	to, err := connect("handover", c.To, c.ToDial, c.Tel)
	if err != nil {
		return nil, services.Wrap(op, err)
	}
	defer to.close()
	groups, err := from.adm.DescribeGroups(ctx, c.Group)
	if err != nil {
		return nil, unreached(op, err)
	}
	if n := len(groups[c.Group].Members); n > 0 {
		return nil, services.Errorf(services.Conflict, "%s: the group has %d members, which would not notice", op, n).
			WithRemedy("return the offsets before the region's consumers start")
	}
	var moved []Position
	for _, topic := range c.topics() {
		m, err := c.handedBack(ctx, from, to, topic)
		if err != nil {
			return nil, unreached(op, err)
		}
		moved = append(moved, m...)
	}
	var offs kadm.Offsets
	for _, m := range moved {
		offs.AddOffset(m.Topic, m.Partition, m.Offset, -1)
	}
	if len(offs) == 0 {
		return nil, nil
	}
	if err := from.adm.CommitAllOffsets(ctx, c.Group, offs); err != nil {
		return nil, unreached(op, err)
	}
	return moved, nil
}

// handedBack finds the positions of a topic that the copies' consumers have
// passed and the region's own have not.
func (c HandoverConfig) handedBack(ctx context.Context, from, to *cluster, topic string) ([]Position, error) {
	copyOf := ReplicaTopic(c.Region, topic)
	spans, err := from.spans(ctx, topic)
	if err != nil {
		return nil, err
	}
	topics, err := from.adm.ListTopics(ctx, topic)
	if err != nil {
		return nil, err
	}
	copies, err := to.spans(ctx, copyOf)
	if err != nil {
		return nil, err
	}
	passed, err := to.committed(ctx, ReplicaGroup(c.Region, c.Group), copyOf)
	if err != nil {
		return nil, err
	}
	own, err := from.committed(ctx, c.Group, topic)
	if err != nil {
		return nil, err
	}
	var out []Position
	for part, at := range passed {
		p := place{copyOf, part}
		if at <= copies[p].start {
			continue // nothing that is still there was handled
		}
		last, err := to.at(ctx, p, at-1)
		if err != nil {
			return nil, err
		}
		src, id, ok := sourceOf(last)
		// A log that was made anew knows nothing of the one that was copied.
		if next := src.offset + 1; ok && id == topics[topic].ID.String() && next > own[part] {
			out = append(out, Position{Topic: topic, Partition: part, Offset: next, Waiting: max(0, spans[place{topic, part}].end-next)})
		}
	}
	return out, nil
}

func (c HandoverConfig) topics() []string {
	if c.Topics == nil {
		return ReplicatedTopics()
	}
	return c.Topics
}

// unreached gives a failure of a broker its kind.
func unreached(op string, err error) error {
	return &services.Error{Op: op, Kind: services.Unavailable, Msg: "the brokers do not answer as they should", Err: fmt.Errorf("kafka: %w", err)}
}
