package events

import (
	"context"
	"maps"

	"github.com/twmb/franz-go/pkg/kadm"
)

// lookAnyway is after how many checkpoints that found nothing to do the groups'
// positions are read again, in case a broker forgot them.
const lookAnyway = 30

// settled is what the checkpoints know of a source that rests: when every group
// has handled all that was copied, and nothing came since, no position can have
// moved on, and none is asked for.
type settled struct {
	at   map[place]pair // the positions when that was so; nil while it is not
	idle int            // checkpoints left out since
}

// rests says whether a checkpoint would find nothing to do, with the positions
// that it would go by.
func (r *replicator) rests() (now map[place]pair, rests bool) {
	r.mu.Lock()
	now = maps.Clone(r.next)
	r.mu.Unlock()
	if r.settled.at == nil || r.settled.idle >= lookAnyway || !maps.Equal(r.settled.at, now) {
		return now, false
	}
	r.settled.idle++
	return now, true
}

// checkpoints keeps the groups' positions until ctx ends. Its failures do not
// hold up the copying.
func (r *replicator) checkpoints(ctx context.Context, from, to *cluster) error {
	r.settled = settled{}
	for {
		if now, rests := r.rests(); !rests {
			all := true
			for _, group := range r.cfg.Groups {
				done, err := r.checkpoint(ctx, from, to, group, now)
				if err != nil && ctx.Err() == nil {
					r.cfg.Tel.Log.Debug("no checkpoint", "region", r.cfg.Region, "group", group, "error", err)
				}
				all = all && done && err == nil
			}
			r.settled = settled{}
			if all {
				r.settled.at = now
			}
		}
		pause(ctx, r.cfg.Checkpoint)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// checkpoint translates what a group has committed in the other region. done
// says that the group has handled everything up to the positions of at.
func (r *replicator) checkpoint(ctx context.Context, from, to *cluster, group string, at map[place]pair) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, replicateTimeout)
	defer cancel()
	mine := ReplicaGroup(r.cfg.Region, group)
	var offs kadm.Offsets
	done = true
	for _, topic := range r.cfg.Topics {
		copyOf := ReplicaTopic(r.cfg.Region, topic)
		theirs, err := from.committed(ctx, group, topic)
		if err != nil {
			return false, err
		}
		have, err := to.committed(ctx, mine, copyOf)
		if err != nil {
			return false, err
		}
		for p, n := range at {
			// What it never committed of a partition that holds nothing is handled.
			done = done && (p.topic != topic || theirs[p.partition] >= n.source)
		}
		for part, at := range theirs {
			n, err := r.translate(ctx, to, place{topic, part}, at)
			if err != nil {
				return false, err
			}
			if old, known := have[part]; !known || n > old {
				offs.AddOffset(copyOf, part, n, -1)
			}
		}
	}
	if len(offs) == 0 {
		return done, nil
	}
	return done, to.adm.CommitAllOffsets(ctx, mine, offs)
}

// translate turns a position in the source into one in the copy: no record
// from there on is missing after it.
func (r *replicator) translate(ctx context.Context, to *cluster, p place, at int64) (int64, error) {
	r.mu.Lock()
	n := r.next[p]
	copied, known := r.trails[p].find(at)
	r.mu.Unlock()
	if at >= n.source {
		return n.copy, nil // all that was copied was handled
	}
	if known {
		return copied, nil
	}
	c := place{ReplicaTopic(r.cfg.Region, p.topic), p.partition}
	spans, err := to.spans(ctx, c.topic)
	if err != nil {
		return 0, err
	}
	// Records lie as close in the copy as in the source, unless something was
	// missed or skipped, which makes the guess too early, or copied twice, which
	// makes it too late: then it goes back.
	guess := max(n.copy-(n.source-at), spans[c].start)
	for guess > spans[c].start {
		k, err := to.at(ctx, c, guess)
		if err != nil {
			return 0, err
		}
		src, _, ok := sourceOf(k)
		if ok && src.offset <= at {
			return guess, nil
		}
		guess = max(guess-max(src.offset-at, 1), spans[c].start)
	}
	return guess, nil
}
