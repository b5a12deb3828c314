package transcode

import (
	"context"

	"github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/resilience"
	"github.com/flix-lab/flix/services/search"
	"github.com/flix-lab/flix/services/sqldb"
)

// jobPage is a page of stored jobs.
type jobPage struct {
	items []kv.Item
	next  string
}

// commands guard what a job depends on. There is no second answer to any: a job
// whose step fails is tried again from what is stored of it.
type commands struct {
	get  *resilience.Command[kv.Item]
	list *resilience.Command[jobPage]
	put  *resilience.Command[struct{}]
}

func newCommands(d *Deps) commands {
	g := d.Commands
	if g == nil {
		g = resilience.NewGroup(d.Tel, resilience.Options{BreakerSleep: d.Timing.BreakerSleep.D()})
	}
	to := func(dependency string) resilience.Options {
		return resilience.Options{Group: dependency, Timeout: d.Timing.RPCTimeout.D(), MaxConcurrent: maxConcurrent}
	}
	// A title's publication goes to every region and takes the time it takes.
	far := func(dependency string) resilience.Options {
		return resilience.Options{Group: dependency, Timeout: -1, MaxConcurrent: maxConcurrent}
	}
	publish, putTitle, indexTitle := d.Publish, d.PutTitle, d.IndexTitle
	publishing := resilience.New[struct{}](g, "PublishAsset", far("cachecontrol"))
	d.Publish = func(ctx context.Context, a *cachecontrolpb.Asset) error {
		return only(ctx, publishing, func(ctx context.Context) error { return publish(ctx, a) })
	}
	putting := resilience.New[struct{}](g, "PutTitle", far("sql"))
	d.PutTitle = func(ctx context.Context, t sqldb.Title) error {
		return only(ctx, putting, func(ctx context.Context) error { return putTitle(ctx, t) })
	}
	indexing := resilience.New[struct{}](g, "IndexTitle", far("search"))
	d.IndexTitle = func(ctx context.Context, doc search.Doc) error {
		return only(ctx, indexing, func(ctx context.Context) error { return indexTitle(ctx, doc) })
	}
	d.Events = &sender{d.Events, resilience.New[struct{}](g, "SendEvent", far("kafka"))}
	return commands{
		get:  resilience.New[kv.Item](g, "GetJob", to("kv")),
		list: resilience.New[jobPage](g, "ListJobs", to("kv")),
		put:  resilience.New[struct{}](g, "PutJob", to("kv")),
	}
}

// maxConcurrent calls of one kind.
const maxConcurrent = 64

// only runs a call that has no result but its error.
func only(ctx context.Context, c *resilience.Command[struct{}], f func(context.Context) error) error {
	_, err := c.Do(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
	return err
}

// sender sends events by a command.
type sender struct {
	to  Events
	cmd *resilience.Command[struct{}]
}

// Send implements Events.
func (s *sender) Send(ctx context.Context, topic, key string, event any) error {
	return only(ctx, s.cmd, func(ctx context.Context) error { return s.to.Send(ctx, topic, key, event) })
}
