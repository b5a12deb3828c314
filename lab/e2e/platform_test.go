package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/kv/cassandra"
	kvembedded "github.com/flix-lab/flix/services/kv/embedded"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// platform is a runtime of labs. What a scenario looks at from outside, such as
// processes and files, lies elsewhere on each: here is where.
type platform struct{ Name string }

const containersName = "containers"

// containers says whether instances are containers.
func (p platform) containers() bool { return p.Name == containersName }

// runtimes lists the runtimes to run a scenario on.
func runtimes(t *testing.T) []platform {
	t.Helper()
	if testing.Short() {
		t.Skip("end-to-end scenarios are left out by -short")
	}
	return []platform{{Name: "embedded"}, {Name: containersName}}
}

// long skips a scenario that takes minutes unless they are asked for.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("FLIX_LONG") != "1" {
		t.Skip("it takes minutes: make test-long runs it")
	}
}

// seldom is long on containers, where a scenario takes minutes that shows little
// which the same one does not show in processes, or another one on containers.
func (p platform) seldom(t *testing.T) {
	t.Helper()
	if p.containers() {
		long(t)
	}
}

// need skips the test unless the runtime can be used here, and fails it where
// the environment demands that it can.
func (p platform) need(t *testing.T) {
	t.Helper()
	args := []string{"lab", "up", "--runtime", p.Name, "--dry-run", "-o", "json"}
	if p.containers() {
		args = []string{"images", "verify"}
	}
	r := newWorld(t).flix(args...)
	switch {
	case r.code == 0:
	case p.containers() && os.Getenv("FLIX_REQUIRE_DOCKER") == "1":
		t.Fatalf("FLIX_REQUIRE_DOCKER is 1 and the containers runtime cannot be used: %s", r.story())
	default:
		t.Skipf("the %s runtime cannot be used: %s", p.Name, strings.TrimSpace(r.stderr))
	}
}

// flags choose the runtime in an up. A lab of scenarios packs a zone's services
// into one container: a hundred would take two processors a minute to start.
func (p platform) flags() []string {
	if p.containers() {
		return []string{"--runtime", p.Name, "--pack", "zone"}
	}
	return []string{"--runtime", p.Name}
}

// commandTime bounds every command of a scenario.
func (p platform) commandTime() time.Duration {
	if p.containers() {
		return 8 * time.Minute // real stores take a minute to start, on two processors
	}
	return 2 * time.Minute
}

// patience stretches the wait for something that takes longer between real
// stores and a hundred containers than in a few processes.
func (p platform) patience(d time.Duration) time.Duration {
	if p.containers() {
		return 6 * d
	}
	return d
}

// docker runs the docker command.
func docker(t testing.TB, args ...string) string {
	t.Helper()
	out, err := dockerTry(args...)
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// dockerTry is docker for what may fail.
func dockerTry(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// ours filters what the engine has to what the lab made.
func (w *world) ours() []string { return []string{"--filter", "label=lab.flix.dir=" + w.dir()} }

// containerIDs lists the lab's containers, running ones only or all; of a fault
// domain, or of all when host is "".
func (w *world) containerIDs(all bool, host string) []string {
	w.t.Helper()
	args := append([]string{"ps", "--quiet", "--no-trunc"}, w.ours()...)
	if all {
		args = append(args, "--all")
	}
	if host != "" {
		args = append(args, "--filter", "label=lab.flix.host="+host)
	}
	return strings.Fields(docker(w.t, args...))
}

// haveDocker says whether there is an engine that could hold something.
func haveDocker() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return exec.CommandContext(ctx, "docker", "info").Run() == nil
}

// wantNoContainers fails if the engine still holds anything of the lab.
func (w *world) wantNoContainers() {
	w.t.Helper()
	if !haveDocker() {
		return
	}
	for what, args := range map[string][]string{
		"container": {"ps", "--all", "--format", "{{.Names}}"},
		"volume":    {"volume", "ls", "--format", "{{.Name}}"},
		"network":   {"network", "ls", "--format", "{{.Name}}"},
	} {
		for _, name := range strings.Fields(docker(w.t, append(args, w.ours()...)...)) {
			w.t.Errorf("%s left after down: %s", what, name)
		}
	}
}

// everyProcess lists the lab's processes with those in its containers.
func (l *lab) everyProcess() []process {
	l.t.Helper()
	out := l.processes()
	if !l.rt.containers() {
		return out
	}
	ids := map[string]bool{}
	for _, id := range l.containerIDs(false, "") {
		ids[id] = true
	}
	groups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		l.t.Fatal(err)
	}
	for _, g := range groups {
		b, err := os.ReadFile(g)
		if err != nil {
			continue // it ended just now
		}
		for id := range ids {
			if strings.Contains(string(b), id) {
				pid, _ := strconv.Atoi(strings.Split(g, "/")[2])
				out = append(out, process{pid: pid, args: commandLine(pid)})
				break
			}
		}
	}
	return out
}

// killHost ends a fault domain as a loss of power would.
func (l *lab) killHost(host string) {
	l.t.Helper()
	if !l.rt.containers() {
		p, ok := l.process("host", host)
		if !ok {
			l.t.Fatalf("there is no host %s to kill", host)
		}
		l.kill(p)
		return
	}
	if ids := l.containerIDs(false, host); len(ids) > 0 {
		docker(l.t, append([]string{"kill", "--signal", "KILL"}, ids...)...)
	}
}

// data is the folder on this machine where an instance keeps its data.
func (l *lab) data(instance string) string {
	l.t.Helper()
	if !l.rt.containers() {
		return filepath.Join(l.dir(), "data", filepath.FromSlash(instance))
	}
	id := instances(l.status())[instance].Container
	if id == "" {
		l.t.Fatalf("%s has no container", instance)
	}
	var mounts []struct{ Source, Destination string }
	if err := json.Unmarshal([]byte(docker(l.t, "inspect", "--format", "{{json .Mounts}}", id)), &mounts); err != nil {
		l.t.Fatal(err)
	}
	i := slices.IndexFunc(mounts, func(m struct{ Source, Destination string }) bool { return m.Destination == "/data" })
	if i < 0 {
		l.t.Fatalf("%s has no volume: %v", instance, mounts)
	}
	if _, err := os.ReadDir(mounts[i].Source); err != nil {
		l.t.Skipf("the volumes of the engine cannot be read by this user: %v", err)
	}
	// Instances that share a container have a folder each.
	if own := filepath.Join(mounts[i].Source, strings.ReplaceAll(instance, "/", "-")); exists(own) {
		return own
	}
	return mounts[i].Source
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// kv connects to a region's wide-column store, past the emulated WAN: an
// outside client is near every region.
func (l *lab) kv(region string) kv.Store {
	l.t.Helper()
	addrs := l.addresses(region, "kv", "rpc")
	var store kv.Store
	if l.rt.containers() {
		c, err := cassandra.New(cassandra.Config{
			Hosts: func() []string { return addrs }, Datacenter: region, Timing: topology.LabTiming(),
			Tel: telemetry.New(telemetry.Config{Instance: "e2e", Role: "e2e"}),
		})
		if err != nil {
			l.t.Fatal(err)
		}
		store = c
	} else {
		conn, err := grpc.NewClient(addrs[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			l.t.Fatal(err)
		}
		store = kvembedded.NewClient(conn)
		l.t.Cleanup(func() { _ = conn.Close() })
	}
	l.t.Cleanup(func() { _ = store.Close() })
	return store
}

// wantPublished checks that containers publish ports on the loopback alone.
func (l *lab) wantPublished() {
	l.t.Helper()
	for _, id := range l.containerIDs(false, "") {
		for line := range strings.Lines(docker(l.t, "port", id)) {
			if _, at, ok := strings.Cut(strings.TrimSpace(line), " -> "); !ok || !strings.HasPrefix(at, "127.0.0.1:") {
				l.t.Errorf("container %s publishes %q, want 127.0.0.1 only", id[:12], line)
			}
		}
	}
}

// hosts are the fault domains of a lab with the regions.
func (l *lab) wantHosts(regions ...string) {
	l.t.Helper()
	if !l.rt.containers() {
		verbs := map[string]int{}
		for _, p := range l.processes() {
			verbs[p.verb()+" "+p.flag("--host")]++
		}
		for _, h := range append(regions, "oc") {
			if verbs["host "+h] != 1 {
				l.t.Errorf("%d hosts %s, want one: %v", verbs["host "+h], h, verbs)
			}
		}
		return
	}
	for _, h := range append(regions, "oc") {
		if n, all := len(l.containerIDs(false, h)), len(l.containerIDs(true, h)); n == 0 || n != all {
			l.t.Errorf("%d of %d containers of %s run", n, all, h)
		}
	}
}

func (p platform) String() string { return fmt.Sprintf("the %s runtime", p.Name) }
