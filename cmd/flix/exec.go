package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/services"
)

type execOptions struct {
	instance string
	cmd      []string
}

func newExecCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "exec INSTANCE -- COMMAND [ARG...]", Short: "Run a command in the container of an instance", Args: cobra.ArbitraryArgs,
		Long: `Runs a command in the container of an instance and ends with its exit code: a
store's own container for a store. The streams of this command are those of
the other; it gets a terminal when this one has one. Services' containers hold
nothing but flix itself.`,
		Example: "  flix lab exec us-east/a/sql/1 -- mariadb --version\n  flix lab exec us-east/a/kv/1 -- bash\n  flix lab exec us-east/a/gateway/1 -- flix version",
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.ArgsLenAtDash() != 1 || len(args) < 2 {
				return services.Errorf(services.Invalid, "exec needs the name of one instance, then --, then a command").WithRemedy("write it like: flix lab exec us-east/a/kv/1 -- nodetool status")
			}
			return runExec(cmd.Context(), a, execOptions{args[0], args[1:]})
		},
	}
	return c
}

func runExec(ctx context.Context, a *app, o execOptions) error {
	x := lab.ExecOptions{Cmd: o.cmd, In: a.env.In, Out: a.env.Out, Err: a.env.Err}
	restore, err := terminal(a.env, &x)
	if err != nil {
		return err
	}
	code, err := lab.Exec(ctx, a.env.lab(), a.name, o.instance, x)
	restore()
	switch {
	case err != nil:
		return err
	case code != 0:
		return exitStatus(code)
	}
	return nil
}

// terminal gives the command a terminal when the standard input and output are
// one: every key goes to it as it is, and it learns of the window's size. The
// returned function makes ours what it was.
func terminal(env Env, x *lab.ExecOptions) (restore func(), err error) {
	in, isFile := env.In.(*os.File)
	if !isFile || !env.OutTTY || !term.IsTerminal(int(in.Fd())) {
		return func() {}, nil
	}
	fd := int(in.Fd())
	was, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("exec: the terminal: %w", err)
	}
	x.TTY = true
	if w, h, err := term.GetSize(fd); err == nil {
		x.Width, x.Height = uint(w), uint(h)
	}
	changed, sizes, done := make(chan os.Signal, 1), make(chan [2]uint), make(chan struct{})
	signal.Notify(changed, syscall.SIGWINCH)
	x.Resized = sizes
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-changed:
			}
			w, h, err := term.GetSize(fd)
			if err != nil {
				continue // it is no terminal any more
			}
			select {
			case <-done:
				return
			case sizes <- [2]uint{uint(w), uint(h)}:
			}
		}
	}()
	return func() {
		signal.Stop(changed)
		close(done)
		<-ended
		_ = term.Restore(fd, was) // a terminal that is gone needs none
	}, nil
}

// exitStatus ends flix with the exit code of a command it ran, without a word
// of its own.
type exitStatus int

func (e exitStatus) Error() string { return "the command ended with exit code " + strconv.Itoa(int(e)) }
