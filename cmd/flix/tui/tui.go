// Package tui is the dashboard behind "flix top": regions, instances, plays,
// fill, events and resilience commands of a running lab, live. It only reads; nothing in it changes
// a lab. The model is pure: Update and View depend on their messages alone, time
// included, and everything that waits happens in the feed beside it.
package tui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/flix-lab/flix/lab/control"
)

// Source is what the dashboard reads; control.Client is one. Every method is
// called from one goroutine of its own at a time, must end soon after its
// context does, and may fail at any moment: the next call is the retry.
type Source interface {
	Status(ctx context.Context) (control.Status, error)
	FillStatus(ctx context.Context) (control.FillStatus, error)
	Sessions(ctx context.Context) ([]control.Session, error)
	FailoverStatus(ctx context.Context) ([]control.Failover, error)
	Commands(ctx context.Context, q control.CommandQuery) (control.Commands, error)
	// Events calls f for each event after seq; with follow it goes on until ctx
	// ends, f fails or the log's server does.
	Events(ctx context.Context, seq uint64, follow bool, f func(control.Event) error) error
}

// Options of a dashboard.
type Options struct {
	// In is the keyboard; nil opens the controlling terminal.
	In io.Reader
	// Out is the terminal drawn on.
	Out io.Writer
	// Color allows colours; without them glyphs and words carry everything.
	Color bool
	// Flags are appended to the commands that "y" shows, e.g. "--name other".
	Flags string
	// Every is the time between two polls of a kind; 0 is a second.
	Every time.Duration
	// Zone is the time zone of what is shown; nil is UTC.
	Zone *time.Location
}

func (o Options) every() time.Duration {
	if o.Every <= 0 {
		return time.Second
	}
	return o.Every
}

// Run shows the dashboard until the user quits (nil) or ctx ends (its error).
// The terminal is restored on every way out.
func Run(ctx context.Context, src Source, o Options) error {
	opts := []tea.ProgramOption{
		tea.WithContext(ctx), tea.WithOutput(o.Out), tea.WithAltScreen(), tea.WithoutSignalHandler(),
	}
	if o.In != nil {
		opts = append(opts, tea.WithInput(o.In))
	} else {
		opts = append(opts, tea.WithInputTTY())
	}
	p := tea.NewProgram(newModel(o), opts...)

	live, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { feed{src: src, send: p.Send, every: o.every(), now: time.Now}.run(live) })
	_, err := p.Run()
	stop()
	wg.Wait()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, tea.ErrProgramKilled) && ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("dashboard: %w", err)
}
