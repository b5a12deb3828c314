package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/lab/runtime/containers"
	"github.com/flix-lab/flix/lab/snapshot"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// RestoreOptions say which snapshot becomes a lab again.
type RestoreOptions struct {
	Name string
	// Lab is the name that was asked for explicitly; "" is the snapshot's own.
	Lab string
	// Force takes a lab of that name down first.
	Force bool
}

// Restore makes the lab of a snapshot again and brings it up. It fails with
// Conflict while there is a lab of that name, unless forced. One that is cut
// short leaves no lab behind.
func Restore(ctx context.Context, env Env, o RestoreOptions, progress control.Progress) (control.UpResult, error) {
	var res control.UpResult
	dir, err := snapshotDir(env, o.Name)
	if err != nil {
		return res, err
	}
	m, err := snapshot.Read(dir)
	if err != nil {
		return res, err
	}
	if o.Lab != "" && o.Lab != m.Lab {
		return res, services.Errorf(services.Invalid, "snapshot %s is of lab %s, not of %s", o.Name, m.Lab, o.Lab).WithRemedy("leave --name out, or restore another: flix lab snapshot ls")
	}
	p, err := PathsOf(env, m.Lab)
	if err != nil {
		return res, err
	}
	if p.Exists() && !o.Force {
		return res, services.Errorf(services.Conflict, "there is a lab %s", m.Lab).WithRemedy("take it down first (flix lab down%s), or have it replaced: --force", nameFlag(m.Lab))
	}
	v := &restoring{env: env, paths: p, dir: dir, m: m, progress: progress}
	if err := v.step(ctx, "verify", fmt.Sprintf("%d parts, %d MiB are what was saved", len(m.Parts), m.Bytes()>>20), func() error { return m.Verify(dir) }); err != nil {
		return res, err
	}
	if p.Exists() {
		if err := v.step(ctx, "down", "lab "+m.Lab+" is down", func() error { _, err := Down(ctx, env, m.Lab, false); return err }); err != nil {
			return res, err
		}
	}
	if err := v.step(ctx, "restore", "the lab's state is in place", func() error { return v.place(ctx) }); err != nil {
		return res, v.undo(ctx, err)
	}
	client, err := EnsureDaemon(ctx, env, p)
	if err != nil {
		return res, err
	}
	return client.Up(ctx, control.UpRequest{Topology: m.Topology, Runtime: m.Runtime}, progress)
}

// restoring is a restore that is under way.
type restoring struct {
	env      Env
	paths    Paths
	dir      string
	m        snapshot.Manifest
	progress control.Progress
}

// step runs a named part and tells about it as a daemon's verb does.
func (v *restoring) step(ctx context.Context, name, text string, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	v.tell("restore.begin", name, name, nil)
	began := time.Now()
	if err := f(); err != nil {
		return fmt.Errorf("%s: %w", name, full(err))
	}
	v.tell("restore.step", name, text, map[string]any{"ms": float64(time.Since(began).Microseconds()) / 1000})
	return nil
}

func (v *restoring) tell(kind, subject, text string, data map[string]any) {
	if v.progress != nil {
		v.progress(control.Event{At: time.Now().UTC(), Kind: kind, Subject: subject, Text: text, Data: data})
	}
}

// undo removes what a restore that failed has made.
func (v *restoring) undo(ctx context.Context, cause error) error {
	if !v.paths.Exists() {
		return cause
	}
	rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	_, err := Reap(rest, v.env, v.paths, false)
	return errors.Join(cause, err)
}

// place puts everything of the snapshot where the lab has it. The intent comes
// last: with it there is a lab.
func (v *restoring) place(ctx context.Context) error {
	if err := v.paths.make(); err != nil {
		return err
	}
	j, err := journal.Open(journal.Path(v.paths.Dir))
	if err != nil {
		return err
	}
	defer j.Close()
	state := map[string]snapshot.Part{}
	for _, p := range v.m.State {
		state[p.Name] = p
	}
	if err := v.restoreJournal(j, state["journal.jsonl"]); err != nil {
		return err
	}
	if err := v.restoreParts(ctx, j); err != nil {
		return err
	}
	for _, name := range stateFiles {
		p, ok := state[name]
		if !ok || name == "journal.jsonl" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(v.dir, p.File))
		if err != nil {
			return err
		}
		to := filepath.Join(v.paths.Dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o700), writeFile(to, b)); err != nil {
			return err
		}
	}
	return nil
}

// restoreJournal records again what was chosen for the lab. Ports that somebody
// else has now are chosen anew.
func (v *restoring) restoreJournal(j *journal.Journal, p snapshot.Part) error {
	b, err := os.ReadFile(filepath.Join(v.dir, p.File))
	if err != nil {
		return err
	}
	var entries []journal.Entry
	for d := json.NewDecoder(bytes.NewReader(b)); ; {
		var e journal.Entry
		err := d.Decode(&e)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("journal of the snapshot: %w", err)
		}
		entries = append(entries, e)
	}
	free, err := v.portsFree(j, entries)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if (e.Kind == journal.Slot || e.Kind == journal.Port) && !free {
			continue
		}
		if err := j.Put(e.Kind, e.ID, e.Data); err != nil {
			return err
		}
	}
	return nil
}

// portsFree says whether nobody has the ports that the lab had.
func (v *restoring) portsFree(j *journal.Journal, entries []journal.Entry) (bool, error) {
	ps, err := newPorts(v.paths.Home, v.paths.Name, publicAddress, j)
	if err != nil {
		return false, err
	}
	defer ps.close()
	taken, err := ps.otherLabs()
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		switch e.Kind {
		case journal.Slot:
			first, err := strconv.Atoi(e.ID)
			if err != nil || taken[first] {
				return false, nil
			}
			if ok, err := ps.hold(first); err != nil || !ok {
				return false, err
			}
		case journal.Port:
			var d portData
			if err := json.Unmarshal(e.Data, &d); err != nil || !bindable(d.Port) {
				return false, nil
			}
		}
	}
	return true, nil
}

func bindable(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort(publicAddress, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// restoreParts unpacks the instances' data.
func (v *restoring) restoreParts(ctx context.Context, j *journal.Journal) error {
	if v.m.Runtime != ContainersRuntime {
		for _, p := range v.m.Parts {
			if err := ctx.Err(); err != nil {
				return err
			}
			v.tell("restore.live", p.Name, p.Name, nil)
			if err := v.restoreDir(p); err != nil {
				return fmt.Errorf("%s: %w", p.Name, err)
			}
		}
		return nil
	}
	rt, err := newRuntime(ctx, v.env, v.paths, j, v.m.Runtime, func() topology.Containers { return v.m.Topology.Containers })
	if err != nil {
		return err
	}
	k, ok := rt.(interface {
		volumeKeeper
		Close() error
	})
	if !ok {
		return services.Errorf(services.Internal, "the %s runtime keeps no volumes", rt.Name())
	}
	defer k.Close()
	if err := k.EnsureImage(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sideBySide)
	for _, p := range v.m.Parts {
		g.Go(func() error {
			v.tell("restore.live", p.Name, p.Name, nil)
			f, err := os.Open(filepath.Join(v.dir, p.File))
			if err != nil {
				return err
			}
			defer f.Close()
			return k.UnpackVolume(ctx, containers.Volume{Key: p.Name, Host: p.Host, Role: p.Role}, unpackArgs(p.Content), f)
		})
	}
	return g.Wait()
}

func (v *restoring) restoreDir(p snapshot.Part) error {
	f, err := os.Open(filepath.Join(v.dir, p.File))
	if err != nil {
		return err
	}
	defer f.Close()
	root, err := os.OpenRoot(v.paths.Data())
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.MkdirAll(p.Name, 0o700); err != nil {
		return err
	}
	return snapshot.Unpack(filepath.Join(v.paths.Data(), p.Name), f, p.Content)
}

// VolumeVerb is the hidden verb that packs and unpacks a volume in a container.
const VolumeVerb = containers.VolumeVerb

// unpackArgs tell "volume unpack" how much to take.
func unpackArgs(c snapshot.Content) []string {
	return []string{"--entries", strconv.Itoa(c.Entries), "--bytes", strconv.FormatInt(c.Bytes, 10)}
}

// PackDir writes a directory as an archive; UnpackDir makes one of it that holds
// no more than the given numbers of entries and bytes.
func PackDir(dir string, w io.Writer) error {
	_, err := snapshot.Pack(dir, w)
	return err
}

// UnpackDir is the inverse of PackDir.
func UnpackDir(dir string, r io.Reader, entries int, bytes int64) error {
	return snapshot.Unpack(dir, r, snapshot.Content{Entries: entries, Bytes: bytes})
}
