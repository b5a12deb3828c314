package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/flix-lab/flix/cmd/flix/tui"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/services"
)

func newTopCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "top", Short: "A live dashboard of the lab", Args: cobra.NoArgs,
		Long: `Shows regions, instances, plays, fill, events and resilience commands of a
running lab, live. It only reads: no key of it changes the lab. ? lists the
keys, y shows the command that prints the same for a script, q quits.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return runTop(cmd.Context(), a) },
	}
}

func runTop(parent context.Context, a *app) error {
	// Before anything of the dashboard runs: it would open the terminal itself.
	if !a.env.OutTTY {
		return needsTerminal(nil)
	}
	if a.env.Getenv("TERM") == "dumb" {
		return needsTerminal(errors.New("TERM=dumb says that this one cannot place text on the screen"))
	}
	client, _, err := lab.Connect(parent, a.env.lab(), a.name)
	if err != nil {
		return err
	}
	o := tui.Options{In: keyboard(a.env.In), Out: a.env.Out, Color: a.env.out().Color, Zone: time.Local}
	if a.name != lab.DefaultName {
		o.Flags = "--name " + a.name
	}
	ctx, stop := hangUp(parent)
	defer stop()
	err = tui.Run(ctx, client, o)
	if ctx.Err() != nil && parent.Err() == nil {
		return exitStatus(exitInterrupted)
	}
	if errors.Is(err, syscall.ENXIO) || errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return needsTerminal(err) // stdin is no terminal and the process has no other
	}
	return err
}

// hangUp ends with SIGHUP, too, so that the terminal is restored before the program
// ends; not where whoever started it (nohup) wants that signal ignored.
func hangUp(ctx context.Context) (context.Context, context.CancelFunc) {
	if signal.Ignored(syscall.SIGHUP) {
		return context.WithCancel(ctx)
	}
	return signal.NotifyContext(ctx, syscall.SIGHUP)
}

// keyboard is the input if that is a terminal; nil lets the dashboard open the
// controlling one, for when stdin is a pipe.
func keyboard(in io.Reader) io.Reader {
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return in
	}
	return nil
}

func needsTerminal(cause error) error {
	return &services.Error{Kind: services.Invalid, Msg: "flix top needs a terminal", Err: cause, Remedy: "for scripts: flix lab status -o json, flix events -f"}
}
