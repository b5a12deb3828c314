package lab

import (
	"context"
	"log/slog"
	"os"

	"github.com/flix-lab/flix/lab/runtime/containers"
)

// ServeVerb is the verb of the command line that runs instances in a container.
const ServeVerb = containers.ServeVerb

// RunServe runs the instances of a container in this process until ctx ends.
// They log as JSON lines to the standard error, which is the container's log.
func RunServe(ctx context.Context, env Env, name, dir, control string) error {
	h := slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: logLevel(env)})
	exp, err := exporter(ctx, env)
	if err != nil {
		return err
	}
	return containers.Serve(ctx, name, dir, control, newWiring(h, exp), slog.New(h).With("instance", "serve/"+name))
}
