package lab

import (
	"context"
	"errors"

	"github.com/flix-lab/flix/lab/runtime/containers"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// ExecOptions are a command to run in an instance, with what it is attached to.
type ExecOptions = containers.Exec

// Exec runs a command in the container of an instance and returns its exit
// code. The daemon is not needed for it.
func Exec(ctx context.Context, env Env, name, instance string, o ExecOptions) (code int, err error) {
	p, err := PathsOf(env, name)
	if err != nil {
		return 0, err
	}
	l, err := look(ctx, env, p)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.unlook()) }()
	inst, err := l.named(instance)
	if err != nil {
		return 0, err
	}
	rt, ok := l.rt.(interface {
		Exec(context.Context, topology.Instance, containers.Exec) (int, error)
	})
	if !ok {
		return 0, services.Errorf(services.Conflict, "on the %s runtime a region's instances share one process: there is nothing of %s alone to run a command in", l.rt.Name(), inst.ID).
			WithRemedy("look at it with flix lab logs %s, or take the lab down and up again with --runtime containers", inst.ID)
	}
	return rt.Exec(ctx, inst, o)
}
