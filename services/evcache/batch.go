package evcache

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

// batch is commands to the servers of one zone, in order for each server.
type batch struct {
	z      *zone
	groups map[*peer][]command
	places []place
}

// place is where a command of a batch is.
type place struct {
	peer *peer
	n    int
}

func newBatch(z *zone) *batch { return &batch{z: z, groups: map[*peer][]command{}} }

// add puts a command in for the server of a key.
func (b *batch) add(key []byte, k command) {
	p := b.z.pick(key)
	b.groups[p] = append(b.groups[p], k)
	b.places = append(b.places, place{p, len(b.groups[p]) - 1})
}

// at returns the i-th command that was added.
func (b *batch) at(i int) *command { return &b.groups[b.places[i].peer][b.places[i].n] }

// do runs the batch, all servers at once.
func (b *batch) do(ctx context.Context, timeout time.Duration) error {
	if len(b.groups) == 1 {
		for p, cs := range b.groups {
			return p.do(ctx, timeout, cs)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	for p, cs := range b.groups {
		g.Go(func() error { return p.do(ctx, timeout, cs) })
	}
	return g.Wait()
}
