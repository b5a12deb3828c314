package tui

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/flix-lab/flix/lab/control"
)

// answer is what a poll of one kind gave, and when.
type answer[T any] struct {
	at    time.Time
	value T
	err   error
}

// clock tells the model the time; it has no other.
type clock time.Time

// news are events in the order of the log. With fresh, the log is another one
// than before and what was known of the old one is void.
type news struct {
	events []control.Event
	fresh  bool
}

// stream says whether the event stream stands (nil) or why it does not.
type stream struct{ err error }

// patience is how many polling intervals an answer may take.
const patience = 5

// newsBatch bounds the events handed over at once, and those that wait.
const newsBatch = 256

// errStreamEnded says that the daemon closed the event stream.
var errStreamEnded = errors.New("the daemon closed the stream")

// item is one thing that the event stream brought; all go through one queue,
// so that the model hears them in order.
type item struct {
	event control.Event
	fresh bool
	state *stream
}

// feed asks the source and sends what it hears to the model. A slow answer
// holds up its own kind only.
type feed struct {
	src   Source
	send  func(tea.Msg)
	every time.Duration
	now   func() time.Time
}

// run returns when ctx has ended and every goroutine of the feed has too.
func (f feed) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { f.tick(ctx) })
	wg.Go(func() { poll(ctx, f, f.src.Status) })
	wg.Go(func() { poll(ctx, f, f.src.FillStatus) })
	wg.Go(func() { poll(ctx, f, f.src.Sessions) })
	wg.Go(func() { poll(ctx, f, f.src.FailoverStatus) })
	wg.Go(func() {
		poll(ctx, f, func(ctx context.Context) (control.Commands, error) {
			return f.src.Commands(ctx, control.CommandQuery{})
		})
	})
	queue := make(chan item, newsBatch)
	wg.Go(func() { f.follow(ctx, queue) })
	wg.Go(func() { f.deliver(ctx, queue) })
	wg.Wait()
}

func (f feed) tick(ctx context.Context) {
	t := time.NewTicker(f.every)
	defer t.Stop()
	for {
		f.send(clock(f.now()))
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func poll[T any](ctx context.Context, f feed, ask func(context.Context) (T, error)) {
	t := time.NewTicker(f.every)
	defer t.Stop()
	for {
		v, err := within(ctx, patience*f.every, ask)
		if ctx.Err() != nil {
			return
		}
		f.send(answer[T]{f.now(), v, err})
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// within bounds a question by a time.
func within[T any](ctx context.Context, d time.Duration, ask func(context.Context) (T, error)) (T, error) {
	short, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	v, err := ask(short)
	if err != nil && short.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("no answer within %s", d)
	}
	return v, err
}

// follow keeps the event stream, from where it broke off last.
func (f feed) follow(ctx context.Context, queue chan<- item) {
	put := func(i item) error {
		select {
		case queue <- i:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var last control.Event
	t := time.NewTicker(f.every)
	defer t.Stop()
	for {
		err := f.followOnce(ctx, &last, put)
		if err == nil {
			err = errStreamEnded
		}
		if ctx.Err() != nil || put(item{state: &stream{err}}) != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (f feed) followOnce(ctx context.Context, last *control.Event, put func(item) error) error {
	if last.Seq > 0 {
		fresh, err := within(ctx, patience*f.every, func(ctx context.Context) (bool, error) { return f.anotherLog(ctx, *last) })
		if err != nil {
			return err
		}
		if fresh {
			*last = control.Event{}
		}
		if err := put(item{fresh: fresh, state: &stream{}}); err != nil {
			return err
		}
	}
	return f.src.Events(ctx, last.Seq, true, func(e control.Event) error {
		*last = e
		return put(item{event: e})
	})
}

// anotherLog says whether the log is not the one that last came from: a lab
// that was taken down and brought up again numbers its events anew, and asking
// for those after last would show none of them.
func (f feed) anotherLog(ctx context.Context, last control.Event) (bool, error) {
	var newest uint64
	var differs bool
	err := f.src.Events(ctx, 0, false, func(e control.Event) error {
		newest = max(newest, e.Seq)
		differs = differs || e.Seq == last.Seq && !e.At.Equal(last.At)
		return nil
	})
	return differs || newest < last.Seq, err
}

// deliver hands events over in batches, so that a long log costs few redraws.
func (f feed) deliver(ctx context.Context, queue <-chan item) {
	for {
		select {
		case <-ctx.Done():
			return
		case i := <-queue:
			var batch []control.Event
			for more := true; more; {
				if i.state != nil {
					break
				}
				batch = append(batch, i.event)
				if len(batch) == newsBatch {
					break
				}
				select {
				case i = <-queue:
				default:
					more = false
				}
			}
			if len(batch) > 0 {
				f.send(news{events: batch})
			}
			if i.fresh {
				f.send(news{fresh: true})
			}
			if i.state != nil {
				f.send(*i.state)
			}
		}
	}
}
