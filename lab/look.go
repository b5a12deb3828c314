package lab

import (
	"context"
	"errors"

	"github.com/flix-lab/flix/lab/journal"
)

// look opens a lab for looking at: nothing of it can be changed, and no daemon
// is needed. Callers close what it returns.
func look(ctx context.Context, env Env, p Paths) (*Lab, error) {
	l, err := glance(ctx, env, p)
	if err != nil {
		return nil, err
	}
	if err := l.secrets(l.intent.ID); err != nil {
		return nil, errors.Join(err, l.unlook())
	}
	return l, nil
}

// glance is look without the lab's keys, which an up that was cut short may not have
// made.
func glance(ctx context.Context, env Env, p Paths) (*Lab, error) {
	i, err := readIntent(p.Dir)
	if err != nil {
		return nil, err
	}
	if i == nil {
		return nil, noLab(p.Name)
	}
	j, err := journal.OpenReadOnly(journal.Path(p.Dir))
	if err != nil {
		return nil, err
	}
	l := &Lab{env: env, paths: p, journal: j, intent: i}
	if l.ports, err = newPorts(p.Home, p.Name, publicAddress, j); err != nil {
		return nil, errors.Join(err, j.Close())
	}
	if l.rt, err = newRuntime(ctx, env, p, j, i.Runtime, l.containers); err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return l, nil
}

// unlook gives back what look has opened.
func (l *Lab) unlook() error {
	var err error
	if c, ok := l.rt.(interface{ Close() error }); ok {
		err = c.Close()
	}
	return errors.Join(err, l.journal.Close())
}
