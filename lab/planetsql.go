package lab

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb"
)

// sqlPatience bounds the wait for a SQL node's answer. One that takes longer
// counts as lost, which nobody shall be for a busy moment.
const sqlPatience = 3 * time.Second

// ask asks the SQL nodes of some regions at once; those that do not answer are
// left out, with the reasons.
func ask[T any](ctx context.Context, l *Lab, regions []string, f func(context.Context, sqldb.Node) (T, error)) (map[string]T, error) {
	ctx, cancel := context.WithTimeout(ctx, sqlPatience)
	defer cancel()
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		errs []error
	)
	out := map[string]T{}
	for _, r := range regions {
		wg.Go(func() {
			var v T
			n, err := l.sqlNode(r)
			if err == nil {
				v, err = f(ctx, n)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", r, err))
				return
			}
			out[r] = v
		})
	}
	wg.Wait()
	return out, errors.Join(errs...)
}

// holding is what is known of the region that holds the SQL primary.
type holding int

const (
	serving holding = iota // it takes writes
	silent                 // it does not answer
	fenced                 // it takes none: a move was cut short
)

// sqlHolder finds the region that holds the SQL primary among those of some names,
// in their order: the one that takes writes, else one that does not answer, as
// it may have been promoted. ok is false when all are there and none takes writes.
func sqlHolder(names []string, primary map[string]bool) (region string, h holding, ok bool) {
	for _, r := range names {
		if primary[r] {
			return r, serving, true
		}
	}
	for _, r := range names {
		if _, answers := primary[r]; !answers {
			return r, silent, true
		}
	}
	return "", serving, false
}

func (p planet) holder(ctx context.Context) (string, holding, error) {
	names := p.Topology().RegionNames()
	var there []string // a region without a process need not be waited for
	for _, r := range names {
		if !p.l.isDown(r) {
			there = append(there, r)
		}
	}
	primary, errs := ask(ctx, p.l, there, func(ctx context.Context, n sqldb.Node) (bool, error) { return n.Primary(ctx) })
	if err := ctx.Err(); err != nil {
		return "", serving, err
	}
	if region, h, ok := sqlHolder(names, primary); ok {
		return region, h, nil
	}
	// One that was fenced for a promotion that has not come holds it still.
	fences, ferrs := ask(ctx, p.l, names, func(ctx context.Context, n sqldb.Node) (bool, error) { return n.Fenced(ctx) })
	for _, r := range names {
		if fences[r] {
			return r, fenced, nil
		}
	}
	err := services.Errorf(services.Unavailable, "no region's SQL node is the primary").WithRemedy("a promotion may be under way: try again")
	err.Err = errors.Join(errs, ferrs)
	return "", serving, err
}

func (p planet) PrimaryRegion(ctx context.Context) (string, bool, error) {
	region, h, err := p.holder(ctx)
	return region, h == silent, err
}

func (p planet) TakePrimary(ctx context.Context, of []string) (string, error) {
	positions, errs := ask(ctx, p.l, of, func(ctx context.Context, n sqldb.Node) (uint64, error) { return n.Position(ctx) })
	to := ""
	for _, r := range of { // the nearest of those with the same
		if at, ok := positions[r]; ok && (to == "" || at > positions[to]) {
			to = r
		}
	}
	if to == "" {
		err := services.Errorf(services.Unavailable, "no saver's SQL node answers: none can become the primary").WithRemedy("mend them first: flix lab up")
		err.Err = errs
		return "", err
	}
	next, err := p.l.sqlNode(to)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, promoteTime)
	defer cancel()
	if err := next.Promote(ctx, positions[to]); err != nil {
		return "", &services.Error{Kind: services.Unavailable, Err: err, Msg: "the SQL node of " + to + " does not become the primary", Remedy: "run the failover again; flix lab logs " + to + " shows why"}
	}
	p.l.log.Add("sql.taken", to, fmt.Sprintf("%s is the SQL primary from position %d on: the old one does not answer", to, positions[to]), nil)
	return to, nil
}

// promoteTime bounds a promotion without the old primary: a real server first
// takes over what other replicas have.
const promoteTime = 20 * time.Second

func (p planet) MovePrimary(ctx context.Context, to string) (bool, error) {
	from, h, err := p.holder(ctx)
	if err != nil {
		return false, err
	}
	if from == to && h == serving {
		return false, nil
	}
	if h == silent {
		return false, services.Errorf(services.Unavailable, "the SQL primary in %s does not answer", from).
			WithRemedy("evacuate it, which promotes another region: flix failover %s", from)
	}
	old, err := p.l.sqlNode(from)
	if err != nil {
		return false, err
	}
	next, err := p.l.sqlNode(to)
	if err != nil {
		return false, err
	}
	position, err := old.Fence(ctx)
	if err != nil {
		return false, err
	}
	return true, next.Promote(ctx, position)
}
