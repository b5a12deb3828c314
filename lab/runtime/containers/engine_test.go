package containers

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// odd is an engine that answers as a test tells it to, by "METHOD /path".
type odd struct {
	t    *testing.T
	path string // of its socket

	mu      sync.Mutex
	answers map[string]func(w http.ResponseWriter, r *http.Request)
	asked   []string
}

var apiVersion = regexp.MustCompile(`^/v[0-9.]+`)

func newOdd(t *testing.T) *odd {
	t.Helper()
	dir, err := os.MkdirTemp("", "fx") // t.TempDir's are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	e := &odd{t: t, path: filepath.Join(dir, "d.sock"), answers: map[string]func(http.ResponseWriter, *http.Request){}}
	e.json("GET /info", map[string]string{"SystemTime": time.Now().Format(time.RFC3339Nano)})
	for _, list := range []string{"GET /containers/json", "GET /networks", "GET /images/json"} {
		e.json(list, []string{})
	}
	e.json("GET /volumes", map[string]any{"Volumes": []string{}})
	e.serve()
	return e
}

// serve answers on the socket until the test ends, or stop.
func (e *odd) serve() (stop func()) {
	e.t.Helper()
	l, err := net.Listen("unix", e.path)
	if err != nil {
		e.t.Fatal(err)
	}
	srv := &http.Server{Handler: e}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	once := sync.OnceFunc(func() {
		if err := errors.Join(srv.Close(), <-done); !errors.Is(err, http.ErrServerClosed) {
			e.t.Error(err)
		}
	})
	e.t.Cleanup(once)
	return once
}

func (e *odd) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", "1.41")
	path := apiVersion.ReplaceAllString(r.URL.Path, "")
	if path == "/_ping" {
		return
	}
	e.mu.Lock()
	e.asked = append(e.asked, r.Method+" "+path)
	answer := e.answers[r.Method+" "+path]
	e.mu.Unlock()
	_, _ = io.Copy(io.Discard, r.Body) // an engine reads what it is sent
	if answer == nil {
		answer = failing(http.StatusNotFound, "No such object: "+path)
	}
	answer(w, r)
}

func (e *odd) on(what string, answer func(http.ResponseWriter, *http.Request)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answers[what] = answer
}

func (e *odd) json(what string, v any) {
	e.on(what, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v); err != nil {
			e.t.Error(err)
		}
	})
}

// did says whether the engine was asked for something.
func (e *odd) did(what string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range e.asked {
		if strings.HasPrefix(a, what) {
			return true
		}
	}
	return false
}

func failing(status int, message string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": message}) // the client is gone
	}
}

// runtime returns a runtime of a lab on the engine.
func (e *odd) runtime(declared topology.Containers) *Runtime {
	e.t.Helper()
	dir := e.t.TempDir()
	j, err := journal.Open(journal.Path(dir))
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = j.Close() })
	r, err := New(e.t.Context(), Config{
		Lab: "odd", Dir: dir, Journal: j, Exe: os.Args[0],
		Getenv: func(k string) string {
			if k == client.EnvOverrideHost {
				return "unix://" + e.path
			}
			return ""
		},
		Declared: func() topology.Containers { return declared },
	})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = r.Close() })
	return r
}

// wantError checks that an error is of a kind, says something and has a remedy
// that does.
func wantError(t *testing.T, err error, kind services.Kind, says, remedy string) {
	t.Helper()
	var e *services.Error
	if !errors.As(err, &e) || e.Kind != kind || !strings.Contains(err.Error(), says) || e.Remedy == "" || !strings.Contains(e.Remedy, remedy) {
		if e == nil {
			e = &services.Error{}
		}
		t.Errorf("error %v, of kind %s, with remedy %q; want kind %s, %q and remedy %q", err, e.Kind, e.Remedy, kind, says, remedy)
	}
}

const noSpace = "write /var/lib/docker/tmp/x: no space left on device"

// TestDiskFull fills the engine's disk at every request that needs some.
func TestDiskFull(t *testing.T) {
	e := newOdd(t)
	r := e.runtime(topology.Containers{})
	if err := r.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.on("POST /networks/create", failing(http.StatusInternalServerError, noSpace))
	wantError(t, r.ensureNetwork(t.Context()), services.Exhausted, "disk of the Docker engine is full", "docker system prune")
	e.on("POST /images/create", failing(http.StatusInternalServerError, noSpace))
	err := r.makeImage(t.Context(), ownImageOf(t, r, scratch))
	wantError(t, err, services.Exhausted, "disk of the Docker engine is full", "docker system prune")
	// A build that has begun says so in its report.
	report := fmt.Sprintf("{\"stream\":\"Step 1\"}\n{\"errorDetail\":{\"message\":%q},\"error\":%q}\n", noSpace, noSpace)
	e.on("POST /build", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, report) })
	err = r.makeImage(t.Context(), ownImageOf(t, r, "flix/ffmpeg:5.1"))
	wantError(t, err, services.Exhausted, "disk of the Docker engine is full", "docker system prune")
	wantError(t, r.notStarted(declaration{ID: "north/a/kv/1"}, errors.New("Error response from daemon: mkdir x: no space left on device")), services.Exhausted, "north/a/kv/1", "it goes on")
	r.image = &ownImage{tag: "flix/lab:there"}
	e.on("POST /containers/create", failing(http.StatusInternalServerError, noSpace))
	err = r.UnpackVolume(t.Context(), Volume{Key: "north-a-kv-1", Host: "north", Role: "kv"}, nil, strings.NewReader(""))
	wantError(t, err, services.Exhausted, "disk of the Docker engine is full", "docker system prune")
}

// TestEngineGoes takes the engine away from a lab, and gives it back.
func TestEngineGoes(t *testing.T) {
	e := newOdd(t)
	r := e.runtime(topology.Containers{})
	if _, err := r.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(e.path, e.path+".gone"); err != nil {
		t.Fatal(err)
	}
	r.docker = reconnected(t, e.path)
	_, err := r.List(t.Context())
	wantError(t, err, services.Unavailable, "the engine does not answer", "flix lab up")
	if hs := r.Hosts(); len(hs) != 0 {
		t.Errorf("hosts of an engine that is gone: %v", hs)
	}
	for name, f := range map[string]func(context.Context) error{
		"remove": r.Remove, "halt": r.Halt, "prepare": r.Prepare, "network": r.ensureNetwork,
		"stop": func(ctx context.Context) error { return r.Stop(ctx, []string{"north/a/kv/1"}, time.Second) },
	} {
		err := f(t.Context())
		if services.KindOf(err) != services.Unavailable || !strings.Contains(err.Error(), "the engine does not answer") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Rename(e.path+".gone", e.path); err != nil {
		t.Fatal(err)
	}
	if _, err := r.List(t.Context()); err != nil {
		t.Errorf("the engine is back: %v", err)
	}
}

// reconnected is a client that has no connection left of before.
func reconnected(t *testing.T, path string) *client.Client {
	t.Helper()
	c, err := client.New(client.WithHost("unix://"+path), client.WithAPIVersion("1.41"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestClockSkew gives the engine a clock that is off.
func TestClockSkew(t *testing.T) {
	e := newOdd(t)
	r := e.runtime(topology.Containers{})
	for _, c := range []struct {
		off  time.Duration
		says string
	}{{0, ""}, {time.Second, ""}, {37 * time.Second, "ahead of"}, {-time.Hour, "behind"}} {
		e.on("GET /info", func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]string{"SystemTime": time.Now().Add(c.off).UTC().Format(time.RFC3339Nano)}) // the test waits for it
		})
		err := r.Prepare(t.Context())
		if c.says == "" {
			if err != nil {
				t.Errorf("%s off: %v", c.off, err)
			}
			continue
		}
		wantError(t, err, services.Conflict, c.says, "chronyc")
	}
	e.json("GET /info", map[string]string{"SystemTime": "never"})
	if err := r.Prepare(t.Context()); err != nil {
		t.Errorf("an engine that does not tell the time: %v", err)
	}
}

// TestSubnetClash: the lab chooses a subnet that meets none of the engine's, and
// says what to do when one has come into its own meanwhile.
func TestSubnetClash(t *testing.T) {
	e := newOdd(t)
	r := e.runtime(topology.Containers{})
	if err := r.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := r.places.subnet
	e.json("GET /networks", []map[string]any{{"Name": "theirs", "IPAM": map[string]any{"Config": []map[string]string{{"Subnet": first.String()}}}}})
	other := e.runtime(topology.Containers{})
	other.prefix = r.prefix // it would choose the same
	if err := other.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if other.places.subnet.Overlaps(first) {
		t.Errorf("%s meets %s, which is taken", other.places.subnet, first)
	}
	e.on("POST /networks/create", failing(http.StatusForbidden, "Pool overlaps with other one on this address space"))
	wantError(t, r.ensureNetwork(t.Context()), services.Conflict, first.String()+" meets another network", "docker network ls")
	e.json("GET /networks/"+r.networkName(), map[string]any{"Name": r.networkName(), "Labels": map[string]string{labelDir: "/somebody/else"}})
	wantError(t, r.ensureNetwork(t.Context()), services.Conflict, "is not this lab's", "--name")
	if e.did("DELETE") {
		t.Error("something was removed")
	}
}

// TestGhostEndpoints: an engine that has lost count of a network's containers is
// told from one that is about to let the last one go.
func TestGhostEndpoints(t *testing.T) {
	e := newOdd(t)
	r := e.runtime(topology.Containers{})
	name := r.networkName()
	if err := r.c.Journal.Put(journal.Network, name, struct{}{}); err != nil {
		t.Fatal(err)
	}
	e.json("GET /networks/"+name, map[string]any{"Name": name, "Labels": map[string]string{labelDir: r.c.Dir}})
	active := failing(http.StatusForbidden, "error while removing network: network "+name+" has active endpoints")
	e.on("DELETE /networks/"+name, active)
	wantError(t, r.removeNetworkWithin(t.Context(), time.Millisecond), services.Unavailable, "shows none", "restart docker")
	if len(r.c.Journal.List(journal.Network)) != 1 {
		t.Error("the journal has forgotten a network that is there")
	}
	asked := 0
	e.on("DELETE /networks/"+name, func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked < 3 {
			active(w, r)
		}
	})
	if err := r.removeNetworkWithin(t.Context(), time.Minute); err != nil || asked != 3 {
		t.Errorf("it goes at the third request: %v after %d", err, asked)
	}
	if left := r.c.Journal.List(journal.Network); len(left) != 0 {
		t.Errorf("the journal still holds %v", left)
	}
}

// TestNotStarted checks what is said of a container that the engine does not
// start, in the words of several versions of it.
func TestNotStarted(t *testing.T) {
	r := newOdd(t).runtime(topology.Containers{})
	elb := runtime.Spec{Instance: topology.Instance{ID: "north/a/elb/1", Role: topology.RoleELB, Ports: []string{topology.PortClient}}, PortNumbers: map[string]int{topology.PortClient: 20003}}
	d := declaration{ID: "north/a", Address: "10.1.1.7", Publish: []port{{Number: 20003}}, Specs: []runtime.Spec{elb}}
	for text, says := range map[string]string{
		"driver failed programming external connectivity on endpoint x: Error starting userland proxy: listen tcp4 127.0.0.1:20003: bind: address already in use":                    "port 20003 of 127.0.0.1, which is north/a/elb/1's, is taken",
		"driver failed programming external connectivity on endpoint x: Bind for 127.0.0.1:20003 failed: port is already allocated":                                                  "port 20003 of 127.0.0.1, which is north/a/elb/1's, is taken",
		"failed to set up container networking: driver failed programming external connectivity on endpoint x: failed to bind host port 127.0.0.1:20003/tcp: address already in use": "port 20003 of 127.0.0.1, which is north/a/elb/1's, is taken",
		"driver failed programming external connectivity on endpoint x: address already in use":                                                                                      "one of the ports 20003/tcp of 127.0.0.1",
		"Address already in use": "its address 10.1.1.7 is taken",
	} {
		err := r.notStarted(d, errors.New("Error response from daemon: "+text))
		wantError(t, err, services.Conflict, says, "")
		if !strings.Contains(err.Error(), d.ID) {
			t.Errorf("%v does not name %s", err, d.ID)
		}
	}
	if err := r.notStarted(d, context.Canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled start: %v", err)
	}
}

// TestStoreDiesWhileStarting: its last lines are shown, and whether it was short
// of memory.
func TestStoreDiesWhileStarting(t *testing.T) {
	e := newOdd(t)
	r := e.runtime(topology.Containers{})
	const id = "0123456789abcdef0123"
	e.json("GET /containers/json", []map[string]any{{
		"Id": id, "Names": []string{"/" + r.containerName("north/a/kv/1")}, "State": "exited", "Status": "Exited (3) 2 seconds ago",
		"Labels": map[string]string{labelDir: r.c.Dir, labelID: "north/a/kv/1", labelRole: "kv", labelHost: "north", labelSpecs: `[{"id":"north/a/kv/1"}]`},
	}})
	e.on("GET /containers/"+id+"/logs", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("tail") == "" {
			t.Error("all of the log is read")
		}
		for k, line := range []string{"INFO starting\n", "ERROR Cannot start node: disk is read-only\n"} {
			head := make([]byte, 8)
			head[0] = byte(1 + k) // its output, then its errors
			binary.BigEndian.PutUint32(head[4:], uint32(len(line)))
			_, _ = w.Write(append(head, line...))
		}
	})
	inspect := func(oom bool) {
		e.json("GET /containers/"+id+"/json", map[string]any{"Id": id, "State": map[string]any{"Status": "exited", "OOMKilled": oom, "ExitCode": 137}, "HostConfig": map[string]any{"Memory": 900 << 20}, "Config": map[string]any{}})
	}
	inspect(false)
	err := r.Died(t.Context(), func(id string) bool { return id == "north/a/kv/1" })
	wantError(t, err, services.Unavailable, "| ERROR Cannot start node: disk is read-only", "docker logs "+r.containerName("north/a/kv/1"))
	if !strings.Contains(err.Error(), "Exited (3)") {
		t.Errorf("it does not say how it ended: %v", err)
	}
	inspect(true)
	wantError(t, r.Died(t.Context(), func(string) bool { return true }), services.Exhausted, "took more than its 900 MiB of memory", "--profile")
	if err := r.Died(t.Context(), func(string) bool { return false }); err != nil {
		t.Errorf("one that is to be down: %v", err)
	}
	all, err := r.List(t.Context())
	if err != nil || len(all) != 1 || all[0].Error != "Exited (3) 2 seconds ago" {
		t.Errorf("List: %+v, %v", all, err)
	}
}

// TestImagesGoWithTheirChildren: an image that is removed takes the untagged
// ones along that it was built on, and one that others use stays.
func TestImagesGoWithTheirChildren(t *testing.T) {
	e := newOdd(t)
	r := e.runtime(topology.Containers{})
	for _, tag := range []string{"flix/lab:aaa", "flix/lab:bbb"} {
		if err := r.c.Journal.Put(journal.Image, tag, struct{}{}); err != nil {
			t.Fatal(err)
		}
	}
	// A container whose image no journal knows.
	e.json("GET /containers/json", []map[string]any{{"Id": "0123456789abcdef", "Names": []string{"/x"}, "Image": "flix/lab:ccc", "State": "exited", "Labels": map[string]string{labelDir: r.c.Dir, labelSpecs: "[]"}}})
	used, err := r.usedImages(t.Context())
	if err != nil || strings.Join(used, " ") != "flix/lab:aaa flix/lab:bbb flix/lab:ccc" {
		t.Fatalf("images %v, %v", used, err)
	}
	pruned := map[string]bool{}
	for _, tag := range used {
		e.on("DELETE /images/"+tag, func(w http.ResponseWriter, r *http.Request) {
			if tag == "flix/lab:bbb" {
				failing(http.StatusConflict, "conflict: unable to remove repository reference: container x is using its referenced image")(w, r)
				return
			}
			pruned[tag] = r.URL.Query().Get("noprune") == ""
			_, _ = io.WriteString(w, "[]")
		})
	}
	if err := r.removeImages(t.Context(), used); err != nil {
		t.Fatal(err)
	}
	if !pruned["flix/lab:aaa"] || !pruned["flix/lab:ccc"] || len(pruned) != 2 {
		t.Errorf("removed with what they were built on: %v", pruned)
	}
	if left := r.c.Journal.List(journal.Image); len(left) != 0 {
		t.Errorf("the journal still holds %v", left)
	}
}

// TestStrayImages: what nothing uses is found, and what anybody may need is not.
func TestStrayImages(t *testing.T) {
	e := newOdd(t)
	r := e.runtime(topology.Containers{})
	old, young := time.Now().Add(-time.Hour).Unix(), time.Now().Unix()
	image := func(id string, created int64, tags ...string) map[string]any {
		return map[string]any{"Id": id, "Created": created, "RepoTags": tags}
	}
	e.json("GET /containers/json", []map[string]any{{"Id": "c", "ImageID": "used"}})
	e.on("GET /images/json", func(w http.ResponseWriter, r *http.Request) {
		var filters map[string]map[string]bool
		if err := json.Unmarshal([]byte(r.URL.Query().Get("filters")), &filters); err != nil {
			t.Error(err)
		}
		list := []map[string]any{}
		switch {
		case filters["reference"]["flix/lab"]:
			list = append(list, image("left", old, "flix/lab:left"), image("kept", old, "flix/lab:kept"), image("new", young, "flix/lab:new"), image("used", old, "flix/lab:used"))
		case filters["dangling"]["true"] && filters["label"][labelImage]:
			list = append(list, image("half", old), image("under way", young), image("used", old))
		case filters["dangling"]["true"] && filters["label"]["flix.build"]:
			list = append(list, image("half", old), image("built", old))
		case !filters["dangling"]["true"]:
			t.Errorf("it lists %v", filters)
		}
		_ = json.NewEncoder(w).Encode(list) // the test waits for it
	})
	got, err := strayImages(t.Context(), r.docker, func(tag string) bool { return tag == "flix/lab:kept" })
	if err != nil {
		t.Fatal(err)
	}
	want := []StrayImage{{ID: "half"}, {ID: "built"}, {ID: "left", Tag: "flix/lab:left"}}
	slices.SortFunc(got, func(a, b StrayImage) int { return strings.Compare(a.Tag+a.ID, b.Tag+b.ID) })
	slices.SortFunc(want, func(a, b StrayImage) int { return strings.Compare(a.Tag+a.ID, b.Tag+b.ID) })
	if !slices.Equal(got, want) {
		t.Errorf("strays %v, want %v", got, want)
	}
	for _, what := range []string{"half", "built", "flix/lab:left"} {
		e.on("DELETE /images/"+what, failing(http.StatusConflict, "conflict: somebody uses it by now"))
	}
	if err := RemoveImages(t.Context(), r.c.Getenv, got); err != nil || !e.did("DELETE /images/flix/lab:left") {
		t.Errorf("removing them: %v", err)
	}
}
