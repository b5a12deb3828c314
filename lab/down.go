package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/lab/runtime/embedded"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
	"golang.org/x/sync/errgroup"
)

// Down implements control.Engine: every process is ended, then everything the
// lab made on disk is removed. With KeepData the instances end in order and
// their data, the intent and the journal stay for the next up.
func (l *Lab) Down(ctx context.Context, r control.DownRequest) (res control.DownResult, err error) {
	// A down does not wait for another verb: it ends the ground it stands on. But
	// that must not make new ground behind it.
	l.ending.Store(true)
	defer func() {
		if err != nil {
			l.ending.Store(false)
		}
	}()
	start := time.Now()
	res.Name = l.paths.Name
	if l.rt == nil { // it never came up
		l.rt = embeddedRuntime(l.env, l.paths, l.journal)
	}
	pids, err := l.rt.Processes(ctx)
	if err != nil {
		return res, err
	}
	res.Processes = len(pids) + 1 // and the daemon
	if r.KeepData {
		g, gctx := errgroup.WithContext(ctx)
		for host := range l.rt.Hosts() {
			g.Go(func() error { return l.rt.EndHost(gctx, host, true) })
		}
		if err := g.Wait(); err != nil {
			return res, err
		}
		l.log.Add("lab.down", l.paths.Name, "stopped, data kept", nil)
		res.Kept = l.paths.Data()
		res.MS = float64(time.Since(start).Microseconds()) / 1000
		return res, removeSockets(l.paths)
	}
	if err := errors.Join(endKeepers(ctx, l.paths), l.rt.Remove(ctx)); err != nil {
		return res, err
	}
	err = errors.Join(removeSockets(l.paths), removeLab(l.paths))
	res.MS = float64(time.Since(start).Microseconds()) / 1000
	return res, err
}

func removeSockets(p Paths) error {
	if err := os.RemoveAll(p.Sockets); err != nil {
		return fmt.Errorf("lab %s: %w", p.Name, err)
	}
	return nil
}

// removeLab removes the lab's folder, then the folders above it that are empty.
func removeLab(p Paths) error {
	if err := os.RemoveAll(p.Dir); err != nil {
		return fmt.Errorf("lab %s: %w", p.Name, err)
	}
	_ = os.Remove(p.Home)               // other labs keep it
	_ = os.Remove(filepath.Dir(p.Home)) // likewise
	return nil
}

// removeAll removes a folder below dir; name must be a single element.
func removeAll(dir, name string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return root.RemoveAll(name)
}

// Down ends a lab from outside: through its daemon when that runs, by the
// journal and the process table when it is dead. It returns when no process
// of the lab is left.
func Down(ctx context.Context, env Env, name string, keepData bool) (control.DownResult, error) {
	p, err := PathsOf(env, name)
	if err != nil {
		return control.DownResult{}, err
	}
	if !p.Exists() {
		return control.DownResult{Name: name}, services.Errorf(services.NotFound, "there is no lab %q: nothing to take down", name).
			WithReason(services.ReasonNoLab).WithRemedy("flix lab ls lists those there are, flix lab down --all takes every one down")
	}
	start := time.Now()
	daemons := embedded.Find(daemonArgs(p)...)
	var res control.DownResult
	if answers(p) {
		res, err = control.NewClient(p.Socket()).Down(ctx, control.DownRequest{KeepData: keepData})
		if err != nil && services.KindOf(err) != services.Unavailable && !errors.Is(err, control.ErrNoDaemon) {
			return res, err
		}
	}
	for _, d := range daemons {
		if err := endDaemon(ctx, d, err == nil); err != nil {
			return res, err
		}
	}
	if p.Exists() && (!keepData || res.Kept == "") {
		n, err := Reap(ctx, env, p, keepData)
		res.Processes += n
		if err != nil {
			return res, err
		}
	}
	res.Name, res.MS = name, float64(time.Since(start).Microseconds())/1000
	if keepData {
		res.Kept = p.Data()
	}
	return res, nil
}

// reapContainers removes what a lab made on the container engine, if it was
// there: its labels tell, whatever the journal has lost.
func reapContainers(ctx context.Context, env Env, p Paths, j *journal.Journal, keepData bool) error {
	i, err := readIntent(p.Dir)
	made := err == nil && i != nil && i.Runtime == ContainersRuntime || len(j.List(journal.Container))+len(j.List(journal.Network))+len(j.List(journal.Volume)) > 0
	if !made {
		return nil
	}
	rt, err := newRuntime(ctx, env, p, j, ContainersRuntime, func() topology.Containers { return topology.Containers{} })
	if err != nil {
		return err
	}
	if !keepData {
		return rt.Remove(ctx)
	}
	for host := range rt.Hosts() {
		if err := rt.EndHost(ctx, host, true); err != nil {
			return err
		}
	}
	return nil
}

// endDaemon waits for a daemon that was asked to end, and kills one that was
// not or does not.
func endDaemon(ctx context.Context, d embedded.Process, asked bool) error {
	if asked {
		soft, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		if d.WaitGone(soft) == nil {
			return nil
		}
	}
	if err := d.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	return d.WaitGone(ctx)
}

// Reap ends and removes what a dead lab left: processes by journal and
// process table, sockets, and, unless keepData, its folder. It returns how
// many processes it ended.
func Reap(ctx context.Context, env Env, p Paths, keepData bool) (int, error) {
	j, err := journal.Open(journal.Path(p.Dir))
	if err == nil {
		defer j.Close()
	}
	if err != nil {
		return 0, fmt.Errorf("%w; remove %s by hand once no flix process uses it", err, p.Dir)
	}
	ended := 0
	kill := func(ps []embedded.Process) error {
		for _, x := range ps {
			if err := endDaemon(ctx, x, false); err != nil {
				return err
			}
			ended++
		}
		return nil
	}
	if err := reapContainers(ctx, env, p, j, keepData); err != nil {
		return ended, err
	}
	if err := kill(embedded.Find(keeperArgs(p)...)); err != nil {
		return ended, err
	}
	rt := embeddedRuntime(env, p, j)
	for _, e := range j.List(journal.Process) {
		if err := kill(rt.Find(e.ID)); err != nil {
			return ended, err
		}
	}
	// A host whose journal line a damaged disk lost still carries the folder.
	if err := kill(embedded.Find(HostVerb, "--lab-dir", p.Dir)); err != nil {
		return ended, err
	}
	if err := removeSockets(p); err != nil {
		return ended, err
	}
	if keepData {
		return ended, nil
	}
	return ended, removeLab(p)
}
