package e2e_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestContainersRestart restarts one container of every kind behind the lab's
// back, then stops one of every kind. What was restarted goes on by itself;
// what was stopped the next up starts, with its data.
func TestContainersRestart(t *testing.T) {
	long(t)
	rt := containersOnly(t)
	l := up(t, rt, "--regions", "1")
	kinds := []string{"evcache", "s3", "sql", "kafka", "search", "kv", "agent", "pack"}
	for _, kind := range kinds {
		t.Run("restart of "+kind, func(t *testing.T) { l.on(t).goesOn(kind) })
	}
	for _, kind := range kinds {
		t.Run("stop of "+kind, func(t *testing.T) { l.on(t).isStartedAgain(kind) })
	}
}

// ofKind lists the containers of a kind: a role, agent or pack.
func (l *lab) ofKind(kind string) []string {
	l.t.Helper()
	ids := strings.Fields(docker(l.t, append([]string{"ps", "--all", "--quiet", "--filter", "label=lab.flix.role=" + kind}, l.ours()...)...))
	if len(ids) == 0 {
		l.t.Fatalf("there is no container of kind %s", kind)
	}
	return ids
}

func (l *lab) goesOn(kind string) {
	t := l.t
	before := l.portsOf("")
	began := time.Now()
	docker(t, append([]string{"restart", "--time", "10"}, l.ofKind(kind)...)...)
	await(t, l.rt.patience(30*time.Second), "a title to play again", func() error {
		r := l.flix(append([]string{"play", "-o", "json"}, quick("us-east")...)...)
		if r.code != 0 {
			return fmt.Errorf("%s", r.story())
		}
		return nil
	})
	t.Logf("plays again after %s", time.Since(began).Round(time.Millisecond))
	await(t, l.rt.patience(20*time.Second), "the lab to be as declared", func() error {
		if d := l.diff(); !d.Equal {
			return fmt.Errorf("%+v", d.Differences)
		}
		return nil
	})
	if res := l.up("--regions", "1"); res.Changes.Added != 0 || res.Changes.Removed != 0 {
		t.Errorf("an up after it changes something: %+v", res.Changes)
	}
	if now := l.portsOf(""); !slices.Equal(now, before) {
		t.Errorf("the ports are %v, were %v", now, before)
	}
}

func (l *lab) isStartedAgain(kind string) {
	t := l.t
	docker(t, append([]string{"stop", "--time", "10"}, l.ofKind(kind)[:1]...)...)
	if d := l.diff(); d.Equal {
		t.Error("a lab with a container that was stopped is as declared")
	}
	l.up("--regions", "1")
	wantPlayed(t, l.play(quick("us-east")...), 6)
	if d := l.diff(); !d.Equal {
		t.Errorf("after an up: %+v", d.Differences)
	}
	if f := l.fill(); f.OriginEgressRatio != 1 {
		t.Errorf("origin egress ratio %g: something was filled twice", f.OriginEgressRatio)
	}
}

// TestEngineStops takes the engine away from a lab that is up: every command
// says what to do and loses nothing, what runs plays on, and once the engine is
// back the lab goes on, or down.
func TestEngineStops(t *testing.T) {
	rt := containersOnly(t)
	l := prepare(t, rt)
	door := openDoor(t)
	t.Cleanup(door.open) // the lab goes down through it
	l.env = append(l.env, "DOCKER_HOST=unix://"+door.path)
	l.up("--regions", "1")
	door.shut()
	for _, args := range [][]string{
		{"lab", "status"}, {"lab", "diff"}, append([]string{"lab", "up", "--regions", "1"}, rt.flags()...), {"lab", "stop"}, {"lab", "down"},
	} {
		r := l.flix(args...)
		wantRefusal(t, r, 6, "systemctl start docker")
	}
	// The daemon may be gone with the down that failed: nothing of the lab is.
	if !exists(l.dir()) {
		t.Fatal("the lab's folder is gone")
	}
	door.open()
	if n := len(l.containerIDs(false, "")); n == 0 {
		t.Error("no container runs any more")
	}
	l.up("--regions", "1")
	wantPlayed(t, l.play(quick("us-east")...), 6)
	if d := l.diff(); !d.Equal {
		t.Errorf("it differs: %+v", d.Differences)
	}
	l.must("lab", "down")
	l.wantNothingLeft()
}

// door is a socket that leads to the engine while it is open.
type door struct {
	t    *testing.T
	path string
	l    net.Listener
	hall *hall
}

// engineSocket is where the engine listens.
func engineSocket() string {
	if h, ok := strings.CutPrefix(os.Getenv("DOCKER_HOST"), "unix://"); ok {
		return h
	}
	return "/var/run/docker.sock"
}

func openDoor(t *testing.T) *door {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "fx") // t.TempDir's may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	d := &door{t: t, path: filepath.Join(dir, "d.sock")}
	d.open()
	t.Cleanup(d.shut)
	return d
}

func (d *door) open() {
	if d.l != nil {
		return
	}
	l, err := net.Listen("unix", d.path)
	if err != nil {
		d.t.Fatal(err)
	}
	d.l, d.hall = l, newHall(l, engineSocket())
}

// shut is what an engine that dies does: every connection ends, and the socket
// is gone.
func (d *door) shut() {
	if d.l == nil {
		return
	}
	_ = d.l.Close() // removes the socket
	d.hall.clear()
	d.l = nil
}
