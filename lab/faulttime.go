package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/lab/runtime/embedded"
	"github.com/flix-lab/flix/services"
)

// lapseAgain is when the daemon tries again to end a fault that it could not.
const lapseAgain = time.Second

// lapses lifts what an earlier daemon left, then ends faults as they lapse,
// until ctx ends. Where they act they lapse by themselves; this keeps the books,
// and reverts what nobody else can. release lets others at the faults once the
// first is done.
func (l *Lab) lapses(ctx context.Context, release func()) {
	l.liftAll(ctx)
	release()
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.faulted:
		case <-next.C:
		}
		if at := l.lapse(ctx); at.IsZero() {
			next.Stop()
		} else {
			next.Reset(time.Until(at))
		}
	}
}

// lapse ends the faults whose time is up. It says when to look again; the zero
// time is when there is a new one.
func (l *Lab) lapse(ctx context.Context) (next time.Time) {
	l.faulting.Lock()
	defer l.faulting.Unlock()
	i := l.current()
	now := time.Now()
	switch {
	case i == nil || len(i.Faults) == 0:
		return next
	case l.ending.Load(): // for good, or not
		return now.Add(lapseAgain)
	}
	for _, f := range i.Faults {
		at := f.Until
		if f.Over(now) {
			_, err := l.endFault(ctx, f, "lapsed", "")
			if err == nil {
				continue
			}
			at = now.Add(lapseAgain)
			l.log.Add("fault.stuck", f.Target, fmt.Sprintf("%s is not ended: %v", f.ID, err), nil)
		}
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// newFault tells that there is a fault that will lapse.
func (l *Lab) newFault() {
	select {
	case l.faulted <- struct{}{}:
	default: // it was told already
	}
}

// liftAll ends the faults that an earlier daemon left: nobody watches over them
// any more. It is called with faulting held.
func (l *Lab) liftAll(ctx context.Context) {
	i := l.current()
	if i == nil {
		return
	}
	for _, f := range i.Faults {
		how := "lifted"
		if f.Over(time.Now()) {
			how = "lapsed"
		}
		if _, err := l.endFault(ctx, f, how, "the daemon was started anew"); err != nil {
			l.log.Add("fault.stuck", f.Target, fmt.Sprintf("%s is not lifted: %v", f.ID, err), nil)
		}
	}
}

// dropFaults forgets the faults that an up ends: what they did it undoes.
func (l *Lab) dropFaults() error {
	l.faulting.Lock()
	defer l.faulting.Unlock()
	i := l.current()
	if len(i.Faults) == 0 {
		return nil
	}
	faults := i.Faults
	if err := l.changeIntent(func(i *intent) { i.Faults = nil }); err != nil {
		return err
	}
	var errs []error
	for _, f := range faults {
		l.log.Add("fault.end", f.Target, fmt.Sprintf("%s: %s is over: lifted by lab up", f.ID, f), map[string]any{"id": f.ID, "how": "lifted"})
		errs = append(errs, appendFault(l.paths.Dir, control.FaultEnded{Fault: f, Ended: time.Now().UTC(), How: "lifted", Note: "by lab up"}))
	}
	return errors.Join(errs...)
}

// KeeperVerb is the hidden verb of the process that outlives the daemon and
// sees to it that a fault which nothing else reverts is reverted in its time.
const KeeperVerb = "fault-keeper"

func keeperArgs(p Paths) []string { return []string{KeeperVerb, "--lab-dir", p.Dir} }

// keeper starts the keeper of a fault.
func (l *Lab) keeper(ctx context.Context, f fault.Fault) error {
	args := append(keeperArgs(l.paths), "--fault", f.ID, "--until", f.Until.Format(time.RFC3339Nano))
	_, err := embedded.Spawn(ctx, l.env.Exe, filepath.Join(l.paths.Logs(), "fault-keeper.log"), l.env.Environ, args...)
	return services.Wrap("the keeper of the fault", err)
}

// keeperSlack is what a living daemon has to revert a fault before its keeper
// starts another daemon.
const keeperSlack = time.Second

// RunKeeper waits until a fault's time is up, then starts a daemon if none
// answers: what a new daemon finds it lifts. It ends early when the fault or the
// lab is gone.
func RunKeeper(ctx context.Context, env Env, dir, id string, until time.Time) error {
	embedded.CloseInherited()
	ready := embedded.Spawned(env.Getenv)
	ready.Tell(nil)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		i, err := readIntent(dir)
		if err != nil || i == nil || !hasFault(i, id) {
			return err
		}
		if time.Since(until) > keeperSlack {
			p, err := PathsOf(env, i.Name)
			if err != nil {
				return err
			}
			_, err = EnsureDaemon(ctx, env, p)
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func hasFault(i *intent, id string) bool {
	for _, f := range i.Faults {
		if f.ID == id {
			return true
		}
	}
	return false
}

// endKeepers ends what keepers a lab has.
func endKeepers(ctx context.Context, p Paths) error {
	for _, k := range embedded.Find(keeperArgs(p)...) {
		if err := endDaemon(ctx, k, false); err != nil {
			return err
		}
	}
	return nil
}

func faultsPath(dir string) string { return filepath.Join(dir, "faults.jsonl") }

// keepFaults bounds the history that is shown.
const keepFaults = 1000

// appendFault adds a fault to the history.
func appendFault(dir string, f control.FaultEnded) error {
	b, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("faults: %w", err)
	}
	w, err := os.OpenFile(faultsPath(dir), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("faults: %w", err)
	}
	_, err = w.Write(append(b, '\n'))
	return errors.Join(err, w.Close())
}

// readFaults reads the history; a line that a crash has torn is left out.
func readFaults(dir string) ([]control.FaultEnded, error) {
	out := []control.FaultEnded{}
	b, err := os.ReadFile(faultsPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return out, fmt.Errorf("faults: %w", err)
	}
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var f control.FaultEnded
		if json.Unmarshal(sc.Bytes(), &f) == nil {
			out = append(out, f)
		}
	}
	if n := len(out); n > keepFaults {
		out = out[n-keepFaults:]
	}
	return out, sc.Err()
}

// StopDead lifts every fault of a lab whose daemon is dead, by starting one. It
// says what it did.
func StopDead(ctx context.Context, env Env, name string) (control.FaultsStopped, error) {
	var out control.FaultsStopped
	p, err := PathsOf(env, name)
	if err != nil {
		return out, err
	}
	if !p.Exists() {
		return out, noLab(name)
	}
	before, err := readIntent(p.Dir)
	if err != nil {
		return out, err
	}
	dead := !answers(p)
	c, err := EnsureDaemon(ctx, env, p)
	if err != nil {
		return out, err
	}
	if out, err = c.StopFaults(ctx, control.FaultStop{All: true}); err != nil || !dead {
		return out, err
	}
	out.Notes = append(out.Notes, "the daemon was dead: a new one was started, which lifts what it finds")
	if before == nil || len(before.Faults) == 0 {
		return out, nil
	}
	h, err := c.FaultHistory(ctx)
	for _, f := range h.Faults {
		if hasFault(before, f.ID) {
			out.Stopped = append(out.Stopped, f)
		}
	}
	return out, err
}
