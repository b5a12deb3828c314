package registry_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flix-lab/flix/services/addresstest"
	"github.com/flix-lab/flix/services/lookup/eureka"
	"github.com/flix-lab/flix/services/registry"
	"github.com/flix-lab/flix/services/registry/original"
	"github.com/flix-lab/flix/topology"
)

// requireJava makes a machine without Java or Maven fail the tests that need
// them, instead of skipping them.
const requireJava = "FLIX_REQUIRE_JAVA"

// java returns the class path of the original's client and server.
func java(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: the original's client and server are not run")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	classpath, err := original.Build(ctx, filepath.Join(cache, "flix-test"))
	switch {
	case err == nil:
		return classpath
	case os.Getenv(requireJava) == "1":
		t.Fatal(err)
	}
	t.Skipf("%v (%s=1 makes this a failure)", err, requireJava)
	return ""
}

// TestOriginalClient lets the original's client, unchanged, live in the
// registry: it registers, renews, fetches in full and by delta, sees others by
// VIP, overrides a status, leaves; and its five codecs read and write both forms.
func TestOriginalClient(t *testing.T) {
	classpath := java(t)
	f := start(t, topology.ProductionTiming())
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	go f.follow(ctx)
	out, err := original.Command(ctx, classpath, "256m", original.Client, f.url+"/").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "\nok all\n") {
		t.Fatalf("%v\n%s", err, out)
	}
	// The client tells by the hash when a delta did not bring it to the state
	// of the registry, and fetches in full then: it must never have had to.
	if strings.Contains(string(out), "Reconcile hashcodes do not match") || !strings.Contains(string(out), "Got delta update") {
		t.Errorf("a delta did not bring the client to the state of the registry:\n%s", out)
	}
}

// follow lets the fixture's clock run with the world's.
func (f *fixture) follow(ctx context.Context) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			f.clock.advance(now.Sub(last))
			last = now
		}
	}
}

// counted is the value of a counter with these labels.
func (f *fixture) counted(t *testing.T, name, labels string) float64 {
	t.Helper()
	families, err := f.tel.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for _, fam := range families {
		if fam.GetName() != name {
			continue
		}
		for _, m := range fam.GetMetric() {
			var pairs []string
			for _, l := range m.GetLabel() {
				pairs = append(pairs, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			if strings.Contains(strings.Join(pairs, ","), labels) {
				total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return total
}

// originals is the original's server.
type originals struct {
	*fixture
	logs *strings.Builder
	mu   *sync.Mutex
}

// startOriginal runs the original's server with a peer, and further settings as
// NAME=VALUE.
func startOriginal(t *testing.T, classpath string, port int, peer string, batches bool, settings ...string) *originals {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := original.Command(ctx, classpath, "256m", append([]string{original.Server, fmt.Sprint(port), peer, fmt.Sprint(batches)}, settings...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	o := &originals{fixture: &fixture{t: t, url: fmt.Sprintf("http://127.0.0.1:%d/eureka/v2", port), http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}, logs: &strings.Builder{}, mu: &sync.Mutex{}}
	up, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			if sc.Text() == "listening" {
				close(up)
				continue
			}
			o.mu.Lock()
			o.logs.WriteString(sc.Text() + "\n")
			o.mu.Unlock()
		}
		_ = cmd.Wait() // it is killed, or its test fails by what it did not do
	}()
	t.Cleanup(func() {
		_ = in.Close()
		cancel()
		<-ended
		if t.Failed() {
			o.mu.Lock()
			defer o.mu.Unlock()
			t.Logf("the original's server said:\n%s", o.logs)
		}
	})
	select {
	case <-up:
	case <-ended:
		t.Fatal("the original's server ended while it started")
	case <-time.After(8 * time.Minute): // only a hang takes as long
		t.Fatal("the original's server does not start")
	}
	return o
}

// TestOriginalServer replicates with the original's server both ways, in
// batches and one by one.
func TestOriginalServer(t *testing.T) {
	classpath := java(t)
	for _, batches := range []bool{true, false} {
		t.Run(fmt.Sprintf("batches=%v", batches), func(t *testing.T) {
			port := addresstest.Port(t)
			ours := startWith(t, topology.ProductionTiming(), func(d *registry.Deps) {
				d.Peers = func() []string { return []string{fmt.Sprintf("http://127.0.0.1:%d/eureka/v2/", port)} }
				d.Clock = nil
			})
			theirs := startOriginal(t, classpath, port, ours.url+"/", batches)
			both := map[*fixture]*fixture{ours: theirs.fixture, theirs.fixture: ours}
			for from, to := range both {
				id := "at-ours"
				if from != ours {
					id = "at-theirs"
				}
				shows := func(what, status string) {
					t.Helper()
					eventually(t, func() error {
						r := to.do("GET", "/apps/KV/"+id, eureka.JSON, "")
						if status == "" && r.status == http.StatusNotFound {
							return nil
						}
						if in, err := eureka.DecodeInstance(r.body, eureka.JSON); err != nil || in.Status != status {
							return fmt.Errorf("%s: %s at the other: %d %s, want %q", what, id, r.status, r.body, status)
						}
						return nil
					})
				}
				from.register("KV", id, "UP", time.Now().UnixMilli())
				shows("registered", "UP")
				from.want(http.StatusOK, "PUT", "/apps/KV/"+id+"/status?value=OUT_OF_SERVICE")
				shows("overridden", "OUT_OF_SERVICE")
				from.want(http.StatusOK, "DELETE", "/apps/KV/"+id+"/status?value=UP")
				shows("its own status", "UP")
				before, err := eureka.DecodeInstance(to.do("GET", "/apps/KV/"+id, eureka.JSON, "").body, eureka.JSON)
				if err != nil {
					t.Fatal(err)
				}
				from.want(http.StatusOK, "PUT", "/apps/KV/"+id)
				eventually(t, func() error {
					in, err := eureka.DecodeInstance(to.do("GET", "/apps/KV/"+id, eureka.JSON, "").body, eureka.JSON)
					if err != nil || in.Lease.LastRenewal <= before.Lease.LastRenewal {
						return fmt.Errorf("a heartbeat of %s does not arrive: %+v, %v", id, in, err)
					}
					return nil
				})
				from.want(http.StatusOK, "DELETE", "/apps/KV/"+id)
				shows("cancelled", "")
			}
		})
	}
}
