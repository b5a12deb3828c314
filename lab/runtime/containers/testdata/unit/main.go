// Command unit is what the containers of the contract suite run in the place of
// flix: "unit serve NAME --state DIR --control ADDR" serves units of the suite.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/lab/runtime/containers"
	"github.com/flix-lab/flix/lab/runtime/host"
	"github.com/flix-lab/flix/lab/runtime/runtimetest"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "unit:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 || args[0] != containers.ServeVerb {
		return fmt.Errorf("arguments %q: want %s NAME", args, containers.ServeVerb)
	}
	flags := flag.NewFlagSet("unit", flag.ContinueOnError)
	dir, control := flags.String("state", "", "folder of the world"), flags.String("control", "", "address to answer on")
	if err := flags.Parse(args[2:]); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return containers.Serve(ctx, args[1], *dir, *control, &units{}, slog.New(slog.NewJSONHandler(os.Stderr, nil)))
}

// units is the Factory of the suite's units.
type units struct {
	mu    sync.Mutex
	world runtime.World
}

func (u *units) SetWorld(w runtime.World) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.world = w
	return nil
}

func (u *units) Build(spec runtime.Spec, ls host.Listeners) (services.Unit, error) {
	return runtimetest.NewUnit(spec, ls.TCP[topology.PortRPC], func() runtime.World {
		u.mu.Lock()
		defer u.mu.Unlock()
		return u.world
	})
}

func (u *units) Close(context.Context) error { return nil }
