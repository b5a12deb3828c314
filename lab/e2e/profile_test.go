package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv"
)

// TestStandardProfile runs two regions of two Cassandra nodes each. Each node
// has a replica of everything, and a quorum of two replicas is both: with one
// node down its region's kv refuses, says why, and has lost nothing; the other
// region does not notice.
func TestStandardProfile(t *testing.T) {
	long(t)
	l := upProfile(t, "standard", "2")
	l.wantRing(4)
	for _, region := range []string{"us-east", "us-west"} {
		wantPlayed(t, l.play(quick(region)...), 6)
	}
	east, west := l.kv("us-east"), l.kv("us-west")
	mustPut(t, east, "before")
	await(t, l.rt.patience(10*time.Second), "the write to be in us-west", func() error { return readBack(t, west, "before") })
	docker(t, "kill", l.containerOf("us-east/a/kv/1"))
	await(t, l.rt.patience(20*time.Second), "the refusal of a quorum that is not there", func() error {
		err := put(t, east, "refused")
		var e *services.Error
		if !errors.As(err, &e) || e.Kind != services.Unavailable || !strings.Contains(err.Error(), "needs 2 replicas, 1 are alive") {
			return fmt.Errorf("us-east answers %v", err)
		}
		return nil
	})
	if err := readBack(t, east, "before"); services.KindOf(err) != services.Unavailable {
		t.Errorf("a read without a quorum: %v", err)
	}
	mustPut(t, west, "meanwhile")
	wantPlayed(t, l.play(quick("us-west")...), 6)
	// Viewers near us-east are served while its kv refuses: from the caches, or by
	// the other region once us-east is evacuated.
	if r := l.flix(append([]string{"play", "-o", "json"}, quick("us-east")...)...); r.code == 0 {
		t.Logf("a title plays near us-east without its kv")
	} else {
		t.Logf("no title plays near us-east without its kv: %s", tail(r.stderr, 2))
	}
	l.upProfile("standard", "2")
	for _, key := range []string{"before", "meanwhile"} {
		await(t, l.rt.patience(20*time.Second), "the write "+key+" to be read in us-east", func() error { return readBack(t, east, key) })
	}
	await(t, l.rt.patience(10*time.Second), "us-east to take writes again", func() error { return put(t, east, "after") })
	l.wantRing(4)
}

// TestLargeProfile runs one region of three Cassandra nodes: two of three are a
// quorum, so any one may be lost and nobody is refused anything; and what was
// written meanwhile is read from whichever two are left.
func TestLargeProfile(t *testing.T) {
	long(t)
	l := upProfile(t, "large", "1")
	l.wantRing(3)
	wantPlayed(t, l.play(quick("us-east")...), 6)
	store := l.kv("us-east")
	mustPut(t, store, "before")

	docker(t, "kill", l.containerOf("us-east/a/kv/1"))
	l.wantServing(store, "one lost")
	wantPlayed(t, l.play(quick("us-east")...), 6)
	l.upProfile("large", "1")
	l.wantRing(3)

	// Now a quorum needs the node that was away.
	docker(t, "kill", l.containerOf("us-east/b/kv/2"))
	for _, key := range []string{"before", "one lost"} {
		await(t, l.rt.patience(20*time.Second), key+" to be read from the two that are left", func() error { return readBack(t, store, key) })
	}
	l.upProfile("large", "1")
	if d := l.diff(); !d.Equal {
		t.Errorf("after it: %+v", d.Differences)
	}
}

// upProfile brings up a lab of containers whose stores have a profile, where the
// machine has the memory for it.
func upProfile(t *testing.T, profile, regions string) *lab {
	t.Helper()
	l := prepare(t, containersOnly(t))
	plan := read[struct {
		Budget struct {
			MemoryBytes     int64 `json:"memory_bytes"`
			FreeMemoryBytes int64 `json:"free_memory_bytes"`
		} `json:"budget"`
	}](l, append([]string{"lab", "up", "--dry-run", "--regions", regions, "--profile", profile}, l.rt.flags()...)...)
	if b := plan.Budget; b.MemoryBytes > b.FreeMemoryBytes {
		t.Skipf("profile %s takes %d MiB of memory, and %d are free", profile, b.MemoryBytes>>20, b.FreeMemoryBytes>>20)
	}
	l.upProfile(profile, regions)
	return l
}

func (l *lab) upProfile(profile, regions string) {
	l.t.Helper()
	l.up("--regions", regions, "--profile", profile)
}

// containerOf is the container of an instance.
func (l *lab) containerOf(instance string) string {
	l.t.Helper()
	id := instances(l.status())[instance].Container
	if id == "" {
		l.t.Fatalf("%s has no container", instance)
	}
	return id
}

// ring fails unless so many nodes of the kv are up and normal, as each other
// sees it from the first that runs.
func (l *lab) ring(nodes int) error {
	r := l.flix("lab", "exec", "us-east/a/kv/1", "--", "nodetool", "status")
	if n := strings.Count(r.stdout, "\nUN "); r.code != 0 || n != nodes {
		return fmt.Errorf("%d nodes are up, want %d: %s", n, nodes, r.story())
	}
	return nil
}

func (l *lab) wantRing(nodes int) {
	l.t.Helper()
	await(l.t, l.rt.patience(20*time.Second), "the ring to be whole", func() error { return l.ring(nodes) })
}

// probe is the partition that the tests write to.
const probe = "profile"

func put(t *testing.T, store kv.Store, key string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return store.Put(ctx, kv.Probe, probe, kv.Item{Sort: key, Value: []byte(key)})
}

func mustPut(t *testing.T, store kv.Store, key string) {
	t.Helper()
	if err := put(t, store, key); err != nil {
		t.Fatalf("the write %q: %v", key, err)
	}
}

func readBack(t *testing.T, store kv.Store, key string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	it, err := store.Get(ctx, kv.Probe, probe, key)
	if err == nil && string(it.Value) != key {
		return fmt.Errorf("it holds %q", it.Value)
	}
	return err
}

// wantServing writes and reads again and again, and wants no error once the loss
// of a node is noticed: by the clients that speak to it, and by the other nodes.
func (l *lab) wantServing(store kv.Store, key string) {
	t := l.t
	t.Helper()
	both := func(n int) error {
		k := fmt.Sprintf("%s %d", key, n)
		return errors.Join(put(t, store, k), readBack(t, store, k), readBack(t, store, "before"))
	}
	const run, writes = 30, 200
	began, refused := time.Now(), 0
	await(t, l.rt.patience(20*time.Second), "the loss to be noticed", func() error {
		for n := range run {
			if err := both(n); err != nil {
				refused++
				return err
			}
		}
		return put(t, store, key)
	})
	t.Logf("%s: noticed after %s, %d calls failed until then", key, time.Since(began).Round(time.Millisecond), refused)
	for n := range writes {
		if err := both(n); err != nil {
			t.Fatalf("%s, write %d of %d: %v", key, n, writes, err)
		}
	}
}
