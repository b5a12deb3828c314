package lookup_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/lookup"
	"github.com/flix-lab/flix/topology"
)

func TestRegisterAndFind(t *testing.T) {
	begun := time.Now()
	r := startRegistry(t)
	writer, _ := runClient(t, r.timing, r.url())
	reader, _ := runClient(t, r.timing, r.url())
	if err := writer.Register(kv(1)); err != nil {
		t.Fatal(err)
	}
	if err := writer.Registered(deadline(t), kv(1).ID); err != nil {
		t.Fatal(err)
	}
	got, err := reader.Wait(deadline(t), "KV", 1)
	if err != nil {
		t.Fatal(err)
	}
	want := kv(1)
	want.App, want.Status = "kv", lookup.StatusUp
	if diff := cmp.Diff([]lookup.Instance{want}, got); diff != "" {
		t.Error(diff)
	}
	if a := got[0].Addr("rpc"); a != "127.0.0.1:4001" {
		t.Errorf("Addr(rpc) = %q", a)
	}
	if a := got[0].Addr("tls"); a != "" {
		t.Errorf("Addr of a port it lacks = %q", a)
	}
	if age := reader.Age(); age > time.Since(begun) || !reader.Fetched() {
		t.Errorf("Age = %v, Fetched = %v", age, reader.Fetched())
	}
}

// Whoever is told of an instance has a copy that was fetched: the first one, too.
func TestWhatIsShownWasFetched(t *testing.T) {
	r := startRegistry(t)
	writer, _ := runClient(t, r.timing, r.url())
	if err := writer.Register(kv(1)); err != nil {
		t.Fatal(err)
	}
	if err := writer.Registered(deadline(t), kv(1).ID); err != nil {
		t.Fatal(err)
	}
	c := lookup.New(lookup.Config{Registry: func() []string { return []string{r.url()} }, Timing: r.timing})
	fetched := make(chan bool, 1)
	defer c.Subscribe("kv", func(up []lookup.Instance) {
		if len(up) > 0 {
			fetched <- c.Fetched()
		}
	})()
	ctx, cancel := context.WithCancel(deadline(t))
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	select {
	case ok := <-fetched:
		if !ok {
			t.Error("an instance is shown by a client that says it has no copy")
		}
	case <-ctx.Done():
		t.Error("nobody is shown")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestStatusAndDeregister(t *testing.T) {
	r := startRegistry(t)
	c, _ := runClient(t, r.timing, r.url())
	for n := range 2 {
		if err := c.Register(kv(n)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Wait(deadline(t), "kv", 2); err != nil {
		t.Fatal(err)
	}
	if err := c.SetStatus(kv(0).ID, lookup.StatusOutOfService); err != nil {
		t.Fatal(err)
	}
	eventually(t, count(c, "kv", 1))
	if len(c.All()) != 2 {
		t.Errorf("All lists %d, want 2", len(c.All()))
	}
	if err := c.SetStatus(kv(0).ID, lookup.StatusUp); err != nil {
		t.Fatal(err)
	}
	eventually(t, count(c, "kv", 2))
	if err := c.Deregister(deadline(t), kv(1).ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, count(c, "kv", 1))
	for name, err := range map[string]error{
		"unknown":       c.SetStatus(kv(1).ID, lookup.StatusUp),
		"unknown, wait": c.Registered(deadline(t), kv(1).ID),
	} {
		if services.KindOf(err) != services.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.SetStatus(kv(0).ID, "BUSY"); services.KindOf(err) != services.Invalid {
		t.Errorf("SetStatus BUSY: %v", err)
	}
	if err := c.Register(lookup.Instance{ID: "x"}); services.KindOf(err) != services.Invalid {
		t.Errorf("Register without VIP: %v", err)
	}
}

func TestEvictionIsSeen(t *testing.T) {
	r := startRegistryWith(t, mortal(), nil)
	reader, _ := runClient(t, r.timing, r.url())
	doomed, kill := runClient(t, r.timing, r.url())
	if err := doomed.Register(kv(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Wait(deadline(t), "kv", 1); err != nil {
		t.Fatal(err)
	}
	kill() // no deregistration: as after SIGKILL
	eventually(t, count(reader, "kv", 0))
}

// A registry's restart empties no VIP, and its clients register again.
func TestRegistryRestart(t *testing.T) {
	r := startRegistry(t)
	c, _ := runClient(t, r.timing, r.url())
	reader, _ := runClient(t, r.timing, r.url())
	var emptied atomic.Bool
	if err := c.Register(kv(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Wait(deadline(t), "kv", 1); err != nil {
		t.Fatal(err)
	}
	defer reader.Subscribe("kv", func(up []lookup.Instance) {
		if len(up) == 0 {
			emptied.Store(true)
		}
	})()
	r.stop()
	eventually(t, func() error {
		if reader.Age() < 2*r.timing.RegistryFetch.D() {
			return errNotYet
		}
		return nil
	})
	if len(reader.VIP("kv")) != 1 {
		t.Fatal("the copy was lost with the registry")
	}
	r.start()
	fresh, _ := runClient(t, r.timing, r.url())
	if _, err := fresh.Wait(deadline(t), "kv", 1); err != nil {
		t.Fatalf("not registered again: %v", err)
	}
	eventually(t, func() error {
		if reader.Age() > r.timing.RegistryFetch.D() {
			return errNotYet
		}
		return nil
	})
	if emptied.Load() {
		t.Error("the reader's VIP was empty for a while")
	}
}

// An instance that does not come back after the registry's restart goes when
// its lease would have run out.
func TestRegistryRestartDropsTheDead(t *testing.T) {
	r := startRegistryWith(t, mortal(), nil)
	reader, _ := runClient(t, r.timing, r.url())
	doomed, kill := runClient(t, r.timing, r.url())
	if err := doomed.Register(kv(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Wait(deadline(t), "kv", 1); err != nil {
		t.Fatal(err)
	}
	kill()
	r.stop()
	r.start()
	eventually(t, count(reader, "kv", 0))
}

func TestWaitMisses(t *testing.T) {
	r := startRegistry(t)
	slow := r.timing
	slow.RegistryFetch = topology.Duration(time.Hour)
	reader, _ := runClient(t, slow, r.url())
	writer, _ := runClient(t, r.timing, r.url())
	eventually(t, func() error {
		if !reader.Fetched() {
			return errNotYet
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	if _, err := reader.Wait(ctx, "kv", 1); services.KindOf(err) != services.Unavailable {
		t.Fatalf("Wait = %v, want Unavailable", err)
	}
	if err := writer.Register(kv(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Wait(deadline(t), "kv", 1); err != nil {
		t.Fatalf("a miss does not hasten the fetch: %v", err)
	}
}

func TestSubscribe(t *testing.T) {
	r := startRegistry(t)
	c, _ := runClient(t, r.timing, r.url())
	sizes := make(chan int, 16)
	stop := c.Subscribe("kv", func(up []lookup.Instance) { sizes <- len(up) })
	next := func() int {
		select {
		case n := <-sizes:
			return n
		case <-time.After(patience):
			t.Fatal("no call")
			return 0
		}
	}
	if n := next(); n != 0 {
		t.Fatalf("first call with %d instances, want 0", n)
	}
	if err := c.Register(kv(1)); err != nil {
		t.Fatal(err)
	}
	if n := next(); n != 1 {
		t.Fatalf("second call with %d instances, want 1", n)
	}
	other := kv(1)
	other.ID, other.VIP = "us-east/a/license/1", "license"
	if err := c.Register(other); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(deadline(t), "license", 1); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := c.Deregister(deadline(t), kv(1).ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, count(c, "kv", 0))
	if len(sizes) != 0 {
		t.Errorf("called for another VIP, or after unsubscribe: %d", <-sizes)
	}
}

func TestNoRegistryYet(t *testing.T) {
	r := startRegistry(t)
	var known atomic.Bool
	c := lookup.New(lookup.Config{Timing: r.timing, Registry: func() []string {
		if known.Load() {
			return []string{"http://127.0.0.1:1", r.url() + "/eureka/v2/"}
		}
		return nil
	}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	if err := c.Register(kv(1)); err != nil {
		t.Fatal(err)
	}
	known.Store(true)
	if _, err := c.Wait(deadline(t), "kv", 1); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A refused instance does not keep the others from being registered.
func TestRefusedInstance(t *testing.T) {
	r := startRegistry(t)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/eureka/v2/apps/BAD" {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		req.URL.Scheme, req.URL.Host, req.RequestURI = "http", r.addr, ""
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		for k, v := range resp.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}))
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	defer front.Close()
	c, stop := runClient(t, r.timing, front.URL)
	defer stop()
	bad := kv(9)
	bad.ID, bad.VIP = "us-east/a/bad/1", "bad"
	for _, in := range []lookup.Instance{bad, kv(1), kv(2)} {
		if err := c.Register(in); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Wait(deadline(t), "kv", 2); err != nil {
		t.Error(err)
	}
}

func TestEncodeID(t *testing.T) {
	for _, id := range []string{"us-east/a/kv/1", "a:b~c/d", "~0", "~1:", ""} {
		if got := lookup.DecodeID(lookup.EncodeID(id)); got != id {
			t.Errorf("%q came back as %q", id, got)
		}
	}
	if got := lookup.EncodeID("us-east/a/kv/1"); got != "us-east:a:kv:1" {
		t.Errorf("EncodeID = %q", got)
	}
}

func TestTwoHundredInstances(t *testing.T) {
	r := startRegistry(t)
	c, stop := runClient(t, r.timing, r.url())
	begun := time.Now()
	for n := range 200 {
		if err := c.Register(kv(n)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Wait(deadline(t), "kv", 200); err != nil {
		t.Fatal(err)
	}
	t.Logf("200 instances registered and seen in %v", time.Since(begun))
	stop() // so that nobody else allocates
	r.stop()
	if allocs := testing.AllocsPerRun(100, func() { c.VIP("kv") }); allocs != 0 {
		t.Errorf("VIP allocates %v times", allocs)
	}
}

func BenchmarkVIP(b *testing.B) {
	r := startRegistry(b)
	c, _ := runClient(b, r.timing, r.url())
	if err := c.Register(kv(1)); err != nil {
		b.Fatal(err)
	}
	if _, err := c.Wait(deadline(b), "kv", 1); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if len(c.VIP("kv")) != 1 {
			b.Fatal("not there")
		}
	}
}

// A forgotten instance is left to its lease: the registry drops it as it does
// one whose process has crashed, and the others of the process stay.
func TestForget(t *testing.T) {
	var passed atomic.Int64 // by the registry's clock, which stands otherwise
	begun := time.Now()
	r := startRegistryWith(t, mortal(), func() time.Time { return begun.Add(time.Duration(passed.Load())) })
	c, _ := runClient(t, r.timing, r.url())
	for n := range 2 {
		if err := c.Register(kv(n)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, count(c, "kv", 2))
	c.Forget(kv(0).ID)
	c.Forget("nobody")
	if got := len(c.VIP("kv")); got != 2 {
		t.Errorf("%d are listed before a lease has run out", got)
	}
	eventually(t, func() error {
		passed.Add(int64(time.Millisecond))
		if up := c.VIP("kv"); len(up) != 1 || up[0].ID != kv(1).ID {
			return fmt.Errorf("%v are listed: %w", up, errNotYet)
		}
		return nil
	})
	if err := c.Register(kv(0)); err != nil {
		t.Fatal(err)
	}
	eventually(t, count(c, "kv", 2))
}
