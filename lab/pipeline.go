package lab

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/events"
	"github.com/flix-lab/flix/services/keystone"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// Properties of keystone that an evacuation sets: propPause stops the reading of
// the own region's topics, propAdopt is a JSON list of regions whose copied
// topics are read in their stead.
const (
	propPause = "keystone.pause"
	propAdopt = "keystone.adopt"
)

// gathering is how long a router lets events gather while they come without a
// pause: viewers report every few seconds, and nobody waits for what becomes of
// a report.
const gathering = 100 * time.Millisecond

// pipelineGroup is the consumer group of a region's routers.
const pipelineGroup = "keystone"

// pipeline is what a region's router reads: the region's own topics, unless it
// is paused, and the copies of the regions it has adopted. Beside that it keeps
// those copies.
type pipeline struct {
	region string
	tel    *telemetry.Telemetry
	dial   services.DialFunc
	// brokers of a region's Kafka; of others they are asked for over the WAN.
	brokers   func(region string) func(context.Context) ([]string, error)
	retention time.Duration
	// changed has room for one: the properties say something else.
	changed chan struct{}
}

func (u *unit) pipeline() *pipeline {
	return newPipeline(pipeline{
		region: u.spec.Region, tel: u.tel, dial: u.dial(), retention: u.timing().KafkaRetention.D(),
		brokers: func(region string) func(context.Context) ([]string, error) {
			reg := u.w.lookup(u.spec.Region, region)
			return func(ctx context.Context) ([]string, error) {
				is, err := reg.Wait(ctx, string(topology.RoleKafka), 1)
				if err != nil {
					return nil, err
				}
				out := make([]string, 0, len(is))
				for _, i := range is {
					out = append(out, i.Addr(topology.PortRPC))
				}
				return out, nil
			}
		},
	})
}

func newPipeline(p pipeline) *pipeline {
	p.changed = make(chan struct{}, 1)
	p.tel.Properties.Watch(func(name, _ string) {
		if name == propPause || name == propAdopt {
			poke(p.changed)
		}
	})
	return &p
}

// poke tells whoever waits on a channel with room for one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// own stands for the region's own topics among the regions to read.
const own = ""

// reads lists whose topics are to be read.
func (p *pipeline) reads() []string {
	var out []string
	if p.tel.Properties.Get(propPause) == "" {
		out = append(out, own)
	}
	adopted, err := regionList(p.tel.Properties.Get(propAdopt))
	if err != nil {
		p.tel.Log.Error("property is no list of regions", "property", propAdopt, "error", err)
	}
	for _, r := range adopted {
		if r != own && r != p.region {
			out = append(out, r)
		}
	}
	return out
}

// regionList reads a property that is a JSON list of regions; "" is none.
func regionList(value string) ([]string, error) {
	if value == "" {
		return nil, nil
	}
	var out []string
	err := json.Unmarshal([]byte(value), &out)
	return out, err
}

// consume is a keystone.ConsumeFunc. One reading is ended, and has left its
// group, before others that shall replace it begin.
func (p *pipeline) consume(ctx context.Context, topics []string, handle func(ctx context.Context, topic string, key, value []byte) error) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		keep(gctx, p.reads, p.changed, func(ctx context.Context, region string) {
			c := events.ConsumerConfig{Brokers: p.brokers(p.region), Group: pipelineGroup, Topics: topics, Dial: p.dial, Gather: gathering, Tel: p.tel}
			if region != own {
				c.Group = events.ReplicaGroup(region, pipelineGroup)
				c.Topics = nil
				for _, t := range events.ReplicatedTopics() {
					c.Topics = append(c.Topics, events.ReplicaTopic(region, t))
				}
			}
			c.Handle = func(ctx context.Context, r events.Record) error {
				_, topic := events.BaseTopic(r.Topic)
				return handle(ctx, topic, []byte(r.Key), r.Value)
			}
			if err := events.Consume(ctx, c); err != nil {
				g.Go(func() error { return err })
			}
		})
		return nil
	})
	return g.Wait()
}

// replicate keeps copies of the topics of other regions, which may change, until
// ctx ends.
func (p *pipeline) replicate(ctx context.Context, others func() []string, changed <-chan struct{}) {
	keep(ctx, others, changed, func(ctx context.Context, region string) {
		err := events.Replicate(ctx, events.ReplicateConfig{
			Region: region, From: p.brokers(region), FromDial: p.dial, To: p.brokers(p.region), ToDial: p.dial,
			Groups: []string{pipelineGroup}, Retention: p.retention, Tel: p.tel,
		})
		if err != nil { // a wrong configuration
			p.tel.Log.Error("events are not copied", "region", region, "error", err)
		}
	})
}

// keep runs one f for each name that want lists, and looks again at each change,
// until ctx ends. It ends those that are not wanted any more, and waits for
// them, before it begins others.
func keep(ctx context.Context, want func() []string, changed <-chan struct{}, f func(ctx context.Context, name string)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	running := map[string]func(){}
	for {
		names := want()
		for name, stop := range running {
			if !slices.Contains(names, name) {
				stop()
				delete(running, name)
			}
		}
		for _, name := range names {
			if running[name] != nil {
				continue
			}
			one, cancel := context.WithCancel(ctx)
			done := make(chan struct{})
			running[name] = func() { cancel(); <-done }
			wg.Go(func() {
				defer cancel()
				defer close(done)
				f(one, name)
			})
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// router is a keystone with its pipeline.
type router struct {
	*keystone.Server
	u        *unit
	pipeline *pipeline
}

// Serve implements services.Unit. One instance of a region copies the topics of
// the others: two would copy twice.
func (r router) Serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.Server.Serve(ctx) })
	if r.u.spec.Number == 1 {
		changed := make(chan struct{}, 1)
		r.u.onTopology(func(topology.Topology) { poke(changed) })
		g.Go(func() error {
			r.pipeline.replicate(ctx, func() []string { return r.u.w.otherRegions(r.u.spec.Region) }, changed)
			return nil
		})
	}
	return g.Wait()
}
