package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/flix-lab/flix/lab/evacuate"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/events"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

const (
	// settleTime bounds the wait for a pipeline that is to stand still: a member
	// of a group that was killed is missed after 6 s.
	settleTime = 8 * time.Second
	// silentTime bounds the wait for Kafkas that run and do not answer: on
	// processors that are full that passes, and giving up moves viewers back.
	silentTime = 24 * time.Second
	// settleLook is the pause between two looks.
	settleLook = 100 * time.Millisecond
	// kafkaTime bounds one question to a region's Kafka.
	kafkaTime = 3 * time.Second
)

// hasPipeline says whether a region declares a router and a Kafka.
func (l *Lab) hasPipeline(region string) bool {
	_, kerr := l.specOf(region, topology.RoleKeystone)
	_, ferr := l.specOf(region, topology.RoleKafka)
	return kerr == nil && ferr == nil
}

// kafka returns the addresses of a region's brokers.
func (l *Lab) kafka(region string) func(context.Context) ([]string, error) {
	return func(context.Context) ([]string, error) {
		if as := l.addresses(region, topology.RoleKafka); len(as) > 0 {
			return as, nil
		}
		return nil, services.Errorf(services.Unavailable, "region %s has no Kafka", region)
	}
}

// adopted lists the regions whose events a region's router handles.
func (l *Lab) adopted(by string) ([]string, error) {
	value := l.current().Properties[by][topology.RoleKeystone][propAdopt]
	out, err := regionList(value)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", propAdopt, by, err)
	}
	return out, nil
}

func (p planet) setAdopted(ctx context.Context, by string, regions []string) error {
	value := ""
	if len(regions) > 0 {
		b, err := json.Marshal(regions)
		if err != nil {
			return err
		}
		value = string(b)
	}
	return p.setRouter(ctx, by, propAdopt, value)
}

// setRouter sets a property of a region's routers; a region that is down takes
// it when it starts again.
func (p planet) setRouter(ctx context.Context, region, name, value string) error {
	err := p.l.setProperty(ctx, region, topology.RoleKeystone, name, value)
	if err != nil && !p.routerRuns(ctx, region) {
		return nil
	}
	return err
}

func (p planet) routerRuns(ctx context.Context, region string) bool {
	live, err := p.l.rt.List(ctx)
	if err != nil {
		return true // nobody knows: then it is a failure
	}
	return slices.ContainsFunc(live, func(x runtime.Instance) bool {
		return x.Spec.Region == region && x.Spec.Role == topology.RoleKeystone && x.State == runtime.Running
	})
}

// AdoptEvents implements evacuate.Planet. First the region's router stands
// still, so that what it has handled is known; then the saver's checkpoint has
// to have heard of it; then the saver goes on from there. When one of the two
// does not come in time the saver begins anyway, at a checkpoint that is too
// early: events that come again carry ids that were seen.
func (p planet) AdoptEvents(ctx context.Context, region string, savers []string) (evacuate.Adoption, error) {
	if !p.l.hasPipeline(region) {
		return evacuate.Adoption{}, nil
	}
	k := slices.IndexFunc(savers, p.l.hasPipeline)
	if k < 0 {
		return evacuate.Adoption{}, nil
	}
	saver := savers[k]
	if err := p.setRouter(ctx, region, propPause, "on"); err != nil {
		return evacuate.Adoption{}, err
	}
	h := p.handover()
	left, reached := h.standstill(ctx, region, region, pipelineGroup, events.ReplicatedTopics())
	waiting, err := h.checkpointed(ctx, region, saver, left, reached)
	if err != nil {
		return evacuate.Adoption{}, err
	}
	// What the region has adopted itself goes on with it.
	inherited, err := p.l.adopted(region)
	if err != nil {
		return evacuate.Adoption{}, err
	}
	have, err := p.l.adopted(saver)
	if err != nil {
		return evacuate.Adoption{}, err
	}
	for _, r := range append([]string{region}, inherited...) {
		if r != saver && !slices.Contains(have, r) {
			have = append(have, r)
		}
	}
	if err := p.setAdopted(ctx, region, nil); err != nil {
		return evacuate.Adoption{}, err
	}
	return evacuate.Adoption{Saver: saver, Waiting: waiting, Lost: !reached}, p.setAdopted(ctx, saver, have)
}

// handover moves a region's pipeline between two Kafkas.
type handover struct {
	// kafka returns the addresses of a region's brokers; alive says whether
	// anything of the region runs.
	kafka func(region string) func(context.Context) ([]string, error)
	alive func(region string) bool
	// note tells what an operator should know.
	note func(region, text string)
	tel  *telemetry.Telemetry
}

func (p planet) handover() handover {
	return handover{kafka: p.l.kafka, alive: func(region string) bool { return !p.l.isDown(region) }, tel: p.l.remote.tel, note: func(region, text string) { p.l.log.Add("events.behind", region, text, nil) }}
}

// standstill waits until a group in a region's Kafka has no members, and
// returns how many records it has not handled. reached is false when that Kafka
// does not answer.
func (h handover) standstill(ctx context.Context, at, of, group string, topics []string) (left int64, reached bool) {
	c := events.HandoverConfig{Region: of, Group: group, Topics: topics, From: h.kafka(at), Tel: h.tel}
	if !h.alive(at) {
		return 0, false
	}
	deadline := time.Now().Add(settleTime)
	for {
		one, cancel := context.WithTimeout(ctx, kafkaTime)
		positions, members, err := events.Progress(one, c)
		cancel()
		if err == nil {
			left, reached = waitingOf(positions), true
		}
		if err == nil && members == 0 || err != nil && !h.alive(at) || time.Now().After(deadline) || ctx.Err() != nil {
			return left, reached
		}
		_ = pause(ctx, settleLook) // the end of ctx ends the loop
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func waitingOf(positions []events.Position) int64 {
	n := int64(0)
	for _, x := range positions {
		n += x.Waiting
	}
	return n
}

// checkpointed waits until a saver's copy of a region's topics has to handle
// what the region itself had left, and returns how much that is: less means that
// something is not copied yet, and more that events came since, if the
// checkpoint is not old. A region that is out of reach makes no checkpoint any
// more.
func (h handover) checkpointed(ctx context.Context, region, saver string, left int64, reached bool) (int64, error) {
	c := events.HandoverConfig{Region: region, Group: pipelineGroup, From: h.kafka(region), To: h.kafka(saver), Tel: h.tel}
	began := time.Now()
	for {
		current, gone := false, error(nil)
		if reached { // before the count: what it counts is from the checkpoint on
			one, cancel := context.WithTimeout(ctx, kafkaTime)
			current, gone = events.CheckpointIsCurrent(one, c)
			cancel()
		}
		one, cancel := context.WithTimeout(ctx, kafkaTime)
		positions, err := events.TranslateOffsets(one, c)
		cancel()
		waiting := waitingOf(positions)
		if gone != nil {
			current = waiting == left // nothing tells more of a region that has gone since
		}
		switch {
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case err == nil && (!reached || current && waiting >= left):
			return waiting, nil
		case err == nil && time.Since(began) > settleTime, time.Since(began) > silentTime:
			switch {
			case err == nil && waiting > left:
				h.note(region, fmt.Sprintf("%s adopts the events of %s at an old checkpoint: up to %d come again", saver, region, waiting-left))
			case err == nil:
				h.note(region, fmt.Sprintf("%s adopts the events of %s before %d of them are copied: they follow while the Kafka of %s lives", saver, region, left-waiting, region))
			}
			return waiting, err
		}
		if err := pause(ctx, settleLook); err != nil {
			return 0, err
		}
	}
}

// ReturnEvents implements evacuate.Planet.
func (p planet) ReturnEvents(ctx context.Context, region string) (int, error) {
	if !p.l.hasPipeline(region) {
		return 0, nil
	}
	moved := 0
	for _, by := range p.Topology().RegionNames() {
		have, err := p.l.adopted(by)
		if err != nil {
			return moved, err
		}
		if !slices.Contains(have, region) {
			continue
		}
		if err := p.setAdopted(ctx, by, slices.DeleteFunc(have, func(r string) bool { return r == region })); err != nil {
			return moved, err
		}
		n, err := p.handover().handBack(ctx, region, by)
		if err != nil {
			return moved, errors.Join(err, p.setAdopted(context.WithoutCancel(ctx), by, append(have, region)))
		}
		moved += n
	}
	return moved, p.setRouter(ctx, region, propPause, "")
}

// handBack tells a region how far another one has handled its events. Without
// either of them there is nobody to tell or to ask: the region goes on where it
// stopped, and events that the other has handled come again.
func (h handover) handBack(ctx context.Context, region, by string) (int, error) {
	var copies []string
	for _, t := range events.ReplicatedTopics() {
		copies = append(copies, events.ReplicaTopic(region, t))
	}
	_, reached := h.standstill(ctx, by, region, events.ReplicaGroup(region, pipelineGroup), copies)
	_, there := h.standstill(ctx, region, region, pipelineGroup, events.ReplicatedTopics())
	if !reached || !there {
		h.note(region, fmt.Sprintf("%s does not learn how far %s has handled its events: they come again", region, by))
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	moved, err := events.ReturnOffsets(ctx, events.HandoverConfig{Region: region, Group: pipelineGroup, From: h.kafka(region), To: h.kafka(by), Tel: h.tel})
	return len(moved), err
}
