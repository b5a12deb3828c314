package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/lab/runtime/containers"
	"github.com/flix-lab/flix/lab/snapshot"
	"github.com/flix-lab/flix/services"
)

// unfinished ends the name of a snapshot's folder until it is whole.
const unfinished = ".new"

// snapshotDir is the folder of a snapshot; the name must be as a lab's.
func snapshotDir(env Env, name string) (string, error) {
	if !nameRule.MatchString(name) {
		return "", services.Errorf(services.Invalid, "%q is not a snapshot's name", name).WithRemedy("use up to 32 lower-case letters, digits and dashes, e.g. before-test")
	}
	return filepath.Join(snapshotsHome(env), name), nil
}

func snapshotsHome(env Env) string { return filepath.Join(env.StateHome, "flix", "snapshots") }

// keptKinds are the entries of the journal that a snapshot takes along: what
// was chosen for the lab. The others are about what exists now.
var keptKinds = []journal.Kind{journal.Slot, journal.Port, journal.Seed, journal.Title, journal.Address}

// stateFiles are the files of the lab's own that a snapshot takes along, below
// its folder. The intent is the last to be restored: with it there is a lab.
var stateFiles = []string{"key", "pki/ca.pem", "pki/cert.pem", "pki/key.pem", "evacuations.json", "journal.jsonl", "intent.json"}

// SaveSnapshot implements control.Engine: the lab is stopped in order, its state
// is copied, and it is started again, also when the client goes away. A lab that
// was stopped already stays so.
func (l *Lab) SaveSnapshot(ctx context.Context, r control.SnapshotRequest, p control.Progress) (res control.Snapshot, err error) {
	dir, err := snapshotDir(l.env, r.Name)
	if err != nil {
		return res, err
	}
	end, err := l.begin(ctx, "lab snapshot save")
	if err != nil {
		return res, err
	}
	defer end()
	i, err := l.need()
	if err != nil {
		return res, err
	}
	if _, err := os.Stat(dir); err == nil {
		return res, services.Errorf(services.Conflict, "there is a snapshot %q already", r.Name).WithRemedy("choose another name, or remove it first: flix lab snapshot rm %s", r.Name)
	}
	st := l.steps("snapshot", p)
	m := snapshot.Manifest{Format: snapshot.Format, Name: r.Name, Lab: i.Name, Runtime: i.Runtime, Topology: i.Topology, Created: time.Now().UTC(), Version: l.env.Version}
	if err := l.copied(ctx, st, i, dir, &m); err != nil {
		return res, err
	}
	l.log.Add("lab.snapshot", r.Name, fmt.Sprintf("snapshot %s: %d parts, %d bytes", r.Name, len(m.Parts), m.Bytes()), map[string]any{"outage_ms": m.OutageMS})
	res = snapshotOf(dir, m)
	res.Steps = st.done
	return res, nil
}

// copied stops the lab, saves a snapshot of it and starts it again.
func (l *Lab) copied(ctx context.Context, st *steps, i *intent, dir string, m *snapshot.Manifest) (err error) {
	tmp := dir + unfinished
	defer func() {
		if err != nil {
			err = errors.Join(full(err), os.RemoveAll(tmp))
		}
	}()
	if err := errors.Join(os.RemoveAll(tmp), os.MkdirAll(tmp, 0o700)); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	if k, ok := l.rt.(volumeKeeper); ok { // not while the lab is stopped
		if err := k.EnsureImage(ctx); err != nil {
			return err
		}
	}
	// What the intent was before: it must not say in the snapshot that the lab
	// was stopped for it.
	state, err := l.state(i)
	if err != nil {
		return err
	}
	if i.Halted {
		if err := l.save(ctx, st, tmp, state, m); err != nil {
			return err
		}
		return finishSnapshot(tmp, dir, *m)
	}
	began := time.Now()
	_, err = l.halt(ctx, st)
	stopped := l.current().Halted // or on its way there
	if err == nil {
		err = l.save(ctx, st, tmp, state, m)
	}
	if err != nil { // what was copied may fill the disk that the lab needs to start
		err = errors.Join(err, os.RemoveAll(tmp))
	}
	// The lab comes back whatever has become of the copy, and a whole copy stays
	// whatever becomes of the lab.
	again, cancel := context.WithTimeout(context.WithoutCancel(ctx), resumeTime)
	defer cancel()
	_, rerr := l.resume(again, st)
	if err == nil {
		m.OutageMS = float64(time.Since(began).Microseconds()) / 1000
		err = finishSnapshot(tmp, dir, *m)
		if err == nil && rerr != nil {
			return fmt.Errorf("snapshot %s is saved, but the lab does not start again: %w", m.Name, rerr)
		}
	}
	if rerr != nil && stopped {
		err = errors.Join(err, fmt.Errorf("the lab does not start again: %w", rerr))
	}
	return err
}

// finishSnapshot makes a folder of parts a snapshot.
func finishSnapshot(tmp, dir string, m snapshot.Manifest) error {
	if err := m.Write(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

// full names the remedy when the disk is.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return &services.Error{Op: "snapshot", Kind: services.Exhausted, Msg: "the disk is full", Err: err, Remedy: "remove snapshots that are not needed: flix lab snapshot ls, flix lab snapshot rm NAME"}
	}
	return err
}

// state reads the lab's own files as they go into a snapshot.
func (l *Lab) state(i *intent) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, name := range stateFiles {
		b, err := os.ReadFile(filepath.Join(l.paths.Dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, fmt.Errorf("snapshot: %w", err)
		}
		out[name] = b
	}
	var j bytes.Buffer
	for _, k := range keptKinds {
		for _, e := range l.journal.List(k) {
			if err := json.NewEncoder(&j).Encode(e); err != nil {
				return nil, fmt.Errorf("snapshot: %w", err)
			}
		}
	}
	out["journal.jsonl"] = j.Bytes()
	b, err := json.MarshalIndent(i, "", " ")
	out["intent.json"] = b
	return out, err
}

// volumeKeeper is a runtime that keeps instances' data in volumes of its own.
type volumeKeeper interface {
	EnsureImage(ctx context.Context) error
	Volumes(ctx context.Context) ([]containers.Volume, error)
	PackVolume(ctx context.Context, v containers.Volume, w io.Writer) error
	UnpackVolume(ctx context.Context, v containers.Volume, args []string, in io.Reader) error
}

// save copies the lab's files and its instances' data into a folder.
func (l *Lab) save(ctx context.Context, st *steps, dir string, state map[string][]byte, m *snapshot.Manifest) error {
	return st.do(ctx, "copy", func(ctx context.Context) (string, error) {
		for _, name := range stateFiles {
			b, ok := state[name]
			if !ok {
				continue
			}
			p, err := snapshot.Add(dir, snapshot.Part{Name: name, File: "state-" + fileName(name)}, func(w io.Writer) (snapshot.Content, error) {
				_, err := w.Write(b)
				return snapshot.Content{}, err
			})
			if err != nil {
				return "", err
			}
			m.State = append(m.State, p)
		}
		var err error
		if k, ok := l.rt.(volumeKeeper); ok {
			err = l.saveVolumes(ctx, st, k, dir, m)
		} else {
			err = l.saveData(ctx, st, dir, m)
		}
		return fmt.Sprintf("%d parts, %d MiB", len(m.Parts), m.Bytes()>>20), err
	})
}

func fileName(name string) string { return strings.ReplaceAll(name, "/", "-") }

// saveData packs the data directory of every instance that has one.
func (l *Lab) saveData(ctx context.Context, st *steps, dir string, m *snapshot.Manifest) error {
	dirs, err := filepath.Glob(filepath.Join(l.paths.Data(), "*", "*", "*", "*"))
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if err := ctx.Err(); err != nil {
			return err
		}
		inside, err := os.ReadDir(d)
		if err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
		if len(inside) == 0 {
			continue
		}
		rel, err := filepath.Rel(l.paths.Data(), d)
		if err != nil {
			return err
		}
		st.tell("snapshot.live", rel, rel)
		p, err := snapshot.Add(dir, snapshot.Part{Name: rel, File: "data-" + fileName(rel) + ".tar"}, func(w io.Writer) (snapshot.Content, error) { return snapshot.Pack(d, w) })
		if err != nil {
			return err
		}
		m.Parts = append(m.Parts, p)
	}
	return nil
}

func (l *Lab) saveVolumes(ctx context.Context, st *steps, k volumeKeeper, dir string, m *snapshot.Manifest) error {
	vs, err := k.Volumes(ctx)
	if err != nil {
		return err
	}
	parts := make([]snapshot.Part, len(vs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sideBySide)
	for n, v := range vs {
		g.Go(func() (err error) {
			st.tell("snapshot.live", v.Key, v.Key)
			parts[n], err = saveVolume(ctx, k, v, dir)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	m.Parts = parts
	return nil
}

// sideBySide is how many volumes are copied at once: to make the container that
// copies one takes the engine longer than the copy.
const sideBySide = 4

func saveVolume(ctx context.Context, k volumeKeeper, v containers.Volume, dir string) (snapshot.Part, error) {
	return snapshot.Add(dir, snapshot.Part{Name: v.Key, Host: v.Host, Role: v.Role, File: "volume-" + v.Key + ".tar"}, func(w io.Writer) (snapshot.Content, error) {
		count, done := snapshot.Count(w)
		err := k.PackVolume(ctx, v, count)
		c, cerr := done()
		return c, errors.Join(err, cerr)
	})
}

func snapshotOf(dir string, m snapshot.Manifest) control.Snapshot {
	return control.Snapshot{
		Name: m.Name, Lab: m.Lab, Runtime: m.Runtime, Created: m.Created, Version: m.Version, Regions: m.Topology.RegionNames(),
		Parts: len(m.Parts), Bytes: m.Bytes(), Dir: dir, OutageMS: m.OutageMS,
	}
}

// Snapshots lists this user's, the oldest first. A folder that is none, or is
// damaged, is an error of its own beside the others.
func Snapshots(env Env) ([]control.Snapshot, error) {
	ds, err := os.ReadDir(snapshotsHome(env))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("snapshots: %w", err)
	}
	var (
		out  []control.Snapshot
		errs []error
	)
	for _, d := range ds {
		if !d.IsDir() || !nameRule.MatchString(d.Name()) {
			continue // one that is being saved
		}
		dir := filepath.Join(snapshotsHome(env), d.Name())
		m, err := snapshot.Read(dir)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, snapshotOf(dir, m))
	}
	slices.SortFunc(out, func(a, b control.Snapshot) int { return a.Created.Compare(b.Created) })
	return out, errors.Join(errs...)
}

// RemoveSnapshot removes a snapshot, and what a save that was killed left of
// one of that name.
func RemoveSnapshot(env Env, name string) error {
	dir, err := snapshotDir(env, name)
	if err != nil {
		return err
	}
	_, err = os.Stat(dir)
	_, half := os.Stat(dir + unfinished)
	if errors.Is(err, fs.ErrNotExist) && half != nil {
		return services.Errorf(services.NotFound, "there is no snapshot %q", name).WithRemedy("list them: flix lab snapshot ls")
	}
	if err := errors.Join(os.RemoveAll(dir), os.RemoveAll(dir+unfinished)); err != nil {
		return fmt.Errorf("snapshot %s: %w", name, err)
	}
	_ = os.Remove(snapshotsHome(env)) // others keep it
	_ = os.Remove(filepath.Dir(snapshotsHome(env)))
	return nil
}
