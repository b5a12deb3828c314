package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/runtime/containers"
	"github.com/flix-lab/flix/lab/runtime/embedded"
)

// DaemonVerb and HostVerb are the hidden verbs of the command line that run a
// lab's daemon and a host.
const (
	DaemonVerb = "daemon"
	HostVerb   = "host"
)

func daemonArgs(p Paths) []string { return []string{DaemonVerb, "--lab-dir", p.Dir} }

func hostArgs(p Paths, host, socket string) []string {
	return []string{HostVerb, "--lab-dir", p.Dir, "--host", host, "--socket", socket}
}

// RunDaemon runs the daemon of a lab until ctx ends or the lab is taken down.
// The parent is told when the socket answers; see embedded.Spawn.
func RunDaemon(ctx context.Context, env Env, p Paths) error {
	embedded.CloseInherited()
	ready := embedded.Spawned(env.Getenv)
	err := runDaemon(ctx, env, p, func() { ready.Tell(nil) })
	ready.Tell(err) // counts only when it was not ready before
	return err
}

func runDaemon(ctx context.Context, env Env, p Paths, ready func()) error {
	if err := p.make(); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(p.Dir, "run", "daemon.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("daemon: %w", err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return errDaemonRuns
	}
	l, err := open(env, p)
	if err != nil {
		return err
	}
	l.remote = newRemotes()
	defer l.remote.close()
	if err := os.Remove(p.Socket()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("daemon: %w", err)
	}
	ln, err := net.Listen("unix", p.Socket())
	if err != nil {
		return fmt.Errorf("daemon: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.life = ctx
	var background sync.WaitGroup
	background.Go(func() { l.watch(ctx) })
	background.Go(func() { l.autoscale(ctx) })
	background.Go(func() { l.sentinel(ctx) })
	l.faulting.Lock() // until what an earlier daemon left is lifted
	background.Go(func() { l.lapses(ctx, l.faulting.Unlock) })
	ready()
	slog.Info("daemon is up", "lab", p.Name, "pid", os.Getpid())
	l.log.Add("daemon.up", p.Name, "daemon started", map[string]any{"pid": os.Getpid()})
	err = control.Serve(ctx, ln, l, cancel)
	cancel()
	background.Wait()
	return errors.Join(err, l.close())
}

// errDaemonRuns says that another daemon holds the lab.
var errDaemonRuns = errors.New("another daemon runs this lab")

// Connect returns a client of the lab's daemon, starting one when the lab
// exists and its daemon is dead. It fails with NotFound when there is no lab.
func Connect(ctx context.Context, env Env, name string) (*control.Client, Paths, error) {
	p, err := PathsOf(env, name)
	if err != nil {
		return nil, p, err
	}
	if !p.Exists() {
		return nil, p, noLab(name)
	}
	c, err := EnsureDaemon(ctx, env, p)
	return c, p, err
}

// answerTime bounds the wait for a daemon that somebody else is starting: many
// times what it needs on a machine that is busy with a whole lab.
const answerTime = 20 * time.Second

// EnsureDaemon returns a client of the lab's daemon, starting it if it does
// not answer. However many callers do so at once, one daemon comes of it.
func EnsureDaemon(ctx context.Context, env Env, p Paths) (*control.Client, error) {
	c := control.NewClient(p.Socket())
	if answers(p) {
		env.compare(ctx, c)
		return c, nil
	}
	if err := p.make(); err != nil {
		return nil, err
	}
	environ := append(slices.Clone(env.Environ), containers.Environ()...)
	_, err := embedded.Spawn(ctx, env.Exe, filepath.Join(p.Logs(), "daemon.log"), environ, daemonArgs(p)...)
	if err == nil {
		return c, nil
	}
	// Another caller's daemon may hold the lock and not answer yet.
	deadline := time.Now().Add(answerTime)
	for wait := time.Millisecond; time.Now().Before(deadline); wait = min(2*wait, 50*time.Millisecond) {
		if answers(p) {
			return c, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
	return nil, err
}

// compare tells of a daemon of another build. One that is too busy to say is left:
// what it is asked for next counts.
func (e Env) compare(ctx context.Context, c *control.Client) {
	if e.Differs == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	if v, err := c.Version(ctx); err == nil && v != e.Version {
		e.Differs(v)
	}
}

func answers(p Paths) bool {
	conn, err := net.Dial("unix", p.Socket())
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
