package main

import (
	"context"
	"errors"
	"io"
	"os"
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

func runTop(ctx context.Context, a *app) error {
	// Before anything of the dashboard runs: it would open the terminal itself.
	if !a.env.OutTTY {
		return needsTerminal(nil)
	}
	client, _, err := lab.Connect(ctx, a.env.lab(), a.name)
	if err != nil {
		return err
	}
	o := tui.Options{In: keyboard(a.env.In), Out: a.env.Out, Color: a.env.out().Color, Zone: time.Local}
	if a.name != lab.DefaultName {
		o.Flags = "--name " + a.name
	}
	err = tui.Run(ctx, client, o)
	if errors.Is(err, syscall.ENXIO) || errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return needsTerminal(err) // stdin is no terminal and the process has no other
	}
	return err
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
