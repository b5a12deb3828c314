package traffic

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/player"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// Bounds of a fleet.
const (
	maxPlayers = 100_000
	// step is how often the number of players that watch is looked at.
	step = 20 * time.Millisecond
	// farewell bounds how long plays may take to end once the load is over:
	// they say a last word each.
	farewell = 15 * time.Second
	// hurt is how long a player whose play failed waits before the next one.
	hurt = time.Second
	// household is how many players share a member.
	household = 20
)

// Viewer plays titles; package player has one.
type Viewer interface {
	Play(ctx context.Context, o player.Options) (player.Report, error)
}

// Config of a fleet.
type Config struct {
	Topology topology.Topology
	// Players at most at once.
	Players int
	// Ramp is how long it takes until all watch, Duration how long they go on,
	// title after title; 0 is until each has watched once. Both are wall clock.
	Ramp, Duration time.Duration
	Shape          Shape
	// Titles there are, and how to choose: Zipf, Uniform or ids with commas.
	Titles []Title
	Choose string
	// ISPs of the viewers, each as likely as the other.
	ISPs []topology.ISP
	// Traces of access links, each as likely as the other; none are as fast as
	// they are.
	Traces []Trace
	Mode   player.Mode
	// Speed of the playback clocks, and of the traces.
	Speed float64
	// Watch is how much media a play lasts; 0 is the whole title.
	Watch time.Duration
	// Seeks and Leaves are the shares of plays with a jump, and of those that
	// end early.
	Seeks, Leaves float64
	Seed          uint64
	// Email and Password sign everybody in as one member. If Email is "" the
	// fleet signs members of its own up, one for every few players.
	Email, Password string
	// SignUp makes a member, or finds that there is one; it is needed without
	// Email.
	SignUp func(ctx context.Context, email, password, country string) error
	// Observe is told what was in the last second; it may be nil.
	Observe func(Second)
}

// member that a player signs in as.
func (c Config) member(slot int) (email, password string) {
	if c.Email != "" {
		return c.Email, c.Password
	}
	return fmt.Sprintf("viewer-%d@flix.test", slot/household+1), memberPassword
}

// memberPassword of the fleet's own members: they have nothing to protect.
const memberPassword = "flix-viewer"

// Validate says what of it could not be.
func (c Config) Validate() error {
	switch {
	case c.Players < 1 || c.Players > maxPlayers:
		return services.Errorf(services.Invalid, "--players: %d is not between 1 and %d", c.Players, maxPlayers)
	case !(c.Speed > 0) || c.Speed > 1000:
		return services.Errorf(services.Invalid, "--speed: %g is not above 0 and up to 1000", c.Speed)
	}
	for name, d := range map[string]time.Duration{"--ramp": c.Ramp, "--duration": c.Duration, "--watch": c.Watch} {
		if d < 0 {
			return services.Errorf(services.Invalid, "%s: %s is below 0", name, d).WithRemedy("write it like 30s")
		}
	}
	for name, share := range map[string]float64{"--seeks": c.Seeks, "--leaves": c.Leaves} {
		if !(share >= 0 && share <= 1) {
			return services.Errorf(services.Invalid, "%s: %g is no share of the plays", name, share).WithRemedy("write it like 0.2, between 0 and 1")
		}
	}
	return c.Shape.validate(c.Duration)
}

// Fleet is a load under way.
type Fleet struct {
	c     Config
	v     Viewer
	pick  *picker
	count counts
	began time.Time
	wg    sync.WaitGroup
}

// Run loads a lab until the load is over or ctx ends, and returns what was felt
// either way; the error is of what kept it from beginning.
func Run(ctx context.Context, v Viewer, c Config) (Result, error) {
	if c.Mode == "" {
		c.Mode = player.Full
	}
	if err := c.Validate(); err != nil {
		return Result{}, err
	}
	if len(c.ISPs) == 0 {
		return Result{}, services.Errorf(services.Invalid, "the lab has no ISP").WithReason(services.ReasonUnknownISP)
	}
	p, err := newPicker(c)
	if err != nil {
		return Result{}, err
	}
	f := &Fleet{c: c, v: v, pick: p}
	if err := f.signUp(ctx); err != nil {
		return Result{}, err
	}
	f.began = time.Now()
	until, stop := ctx, func() {}
	if c.Duration > 0 {
		until, stop = context.WithTimeout(ctx, c.Duration)
	}
	defer stop()
	plays, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	watch := f.observe(plays)
	f.loop(until, plays)
	f.settle(until, cut)
	cut()
	seconds := watch()
	return f.result(seconds, ctx.Err() != nil), nil
}

// signUp makes the fleet's members, a few at once, and gives up with the first
// that cannot be made.
func (f *Fleet) signUp(ctx context.Context) error {
	if f.c.Email != "" {
		return nil
	}
	if f.c.SignUp == nil {
		return services.Errorf(services.Internal, "traffic: nobody to sign up with")
	}
	g, all := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for slot := 0; slot < f.c.Players && all.Err() == nil; slot += household {
		g.Go(func() error {
			email, password := f.c.member(slot)
			return f.c.SignUp(all, email, password, f.c.ISPs[0].Country)
		})
	}
	err := g.Wait()
	if err == nil {
		err = ctx.Err()
	}
	return services.Wrap("sign the fleet's members up", err)
}

// loop keeps as many players watching as the shape wants, until the load is
// over.
func (f *Fleet) loop(until, plays context.Context) {
	tick := time.NewTicker(step)
	defer tick.Stop()
	free := make(chan int, f.c.Players) // slots
	for slot := range f.c.Players {
		free <- slot
	}
	started := 0
	turn := make([]int, f.c.Players) // plays of a slot
	tickets := make([]tls.ClientSessionCache, f.c.Players)
	for until.Err() == nil {
		at := time.Since(f.began)
		want := int(f.c.Shape.share(at, f.c.Ramp, f.c.Duration)*float64(f.c.Players) + 0.5)
		fan := f.c.Shape.fan(at, f.c.Ramp, f.c.Duration)
		running := started
		if f.c.Duration > 0 {
			running = f.c.Players - len(free)
		}
		for ; running < want && len(free) > 0; running++ {
			slot := <-free
			o := f.pick.play(slot, turn[slot], fan)
			if turn[slot] == 0 {
				tickets[slot] = player.NewTickets()
			}
			turn[slot]++
			started++
			o.Gauge, o.Until, o.Tickets = &f.count, until, tickets[slot]
			f.count.active.Add(1)
			f.wg.Go(func() {
				f.play(until, plays, o)
				free <- slot
			})
		}
		if f.c.Duration == 0 && started >= f.c.Players {
			return
		}
		select {
		case <-until.Done():
		case <-tick.C:
		}
	}
}

func (f *Fleet) play(until, plays context.Context, o player.Options) {
	r, err := f.v.Play(plays, o)
	failed := f.count.over(r, err, errors.Is(err, context.Canceled) && plays.Err() != nil)
	f.count.active.Add(-1)
	if failed {
		t := time.NewTimer(hurt)
		defer t.Stop()
		select {
		case <-until.Done():
		case <-t.C:
		}
	}
}

// settle waits for the plays under way: as long as they take while the load
// goes on, and for a farewell after it.
func (f *Fleet) settle(until context.Context, cut func()) {
	done := make(chan struct{})
	go func() { defer close(done); f.wg.Wait() }()
	select {
	case <-done:
		return
	case <-until.Done():
	}
	t := time.NewTimer(farewell)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		cut()
		<-done
	}
}
