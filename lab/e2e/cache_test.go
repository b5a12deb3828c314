package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCache takes the regions' EVCache through what its users rely on: writes
// reach the zones and the other region, deletions too, a zone that missed a
// write gets it from Kafka, and one that was lost is filled again.
func TestCache(t *testing.T) {
	for _, rt := range runtimes(t) {
		t.Run(rt.Name, func(t *testing.T) {
			l := up(t, rt, "--regions", "2")
			t.Run("another region follows", func(t *testing.T) { cacheReplicates(l.on(t)) })
			t.Run("a zone gets what it missed", func(t *testing.T) { cacheRepairs(l.on(t)) })
			t.Run("a zone is filled", func(t *testing.T) { cacheWarms(l.on(t)) })
		})
	}
}

type cacheItem struct {
	Text   string `json:"text"`
	Zone   string `json:"zone"`
	Chunks int    `json:"chunks"`
	Bytes  int    `json:"bytes"`
}

// cached reads a key in a region.
func (l *lab) cached(key, region string, more ...string) (cacheItem, error) {
	var it cacheItem
	r := l.flix(append([]string{"cache", "get", key, "--region", region, "-o", "json"}, more...)...)
	if r.code != 0 {
		return it, fmt.Errorf("%s", r.story())
	}
	decode(l.t, r, &it)
	return it, nil
}

func cacheReplicates(l *lab) {
	t := l.t
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, []byte(strings.Repeat("0123456789abcdef", 150_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	l.must("cache", "set", "text", "hello", "--ttl", "10m")
	l.must("cache", "set", "big", "--file", big)
	await(t, 20*time.Second, "the other region to follow", func() error {
		it, err := l.cached("text", "us-west")
		if err == nil && it.Text != "hello" {
			return fmt.Errorf("it has %+v", it)
		}
		if err == nil {
			it, err = l.cached("big", "us-west")
		}
		if err == nil && it.Bytes != 2_400_000 {
			err = fmt.Errorf("it has %d bytes", it.Bytes)
		}
		return err
	})
	l.must("cache", "delete", "text")
	await(t, 20*time.Second, "the other region to forget", func() error {
		if it, err := l.cached("text", "us-west"); err == nil {
			return fmt.Errorf("it has %+v", it)
		}
		return nil
	})
	// An invalidation makes the other region drop its own value.
	l.must("cache", "set", "own", "west", "--region", "us-west", "--replication", "none")
	l.must("cache", "set", "own", "east", "--region", "us-east", "--replication", "invalidate")
	await(t, 20*time.Second, "the invalidation", func() error {
		if it, err := l.cached("own", "us-west"); err == nil {
			return fmt.Errorf("it has %+v", it)
		}
		return nil
	})
	if it, err := l.cached("own", "us-east"); err != nil || it.Text != "east" {
		t.Errorf("%+v, %v", it, err)
	}
}

func cacheRepairs(l *lab) {
	t := l.t
	l.must("lab", "kill", "us-east/b/evcache/2")
	l.must("cache", "set", "missed", "v", "--region", "us-east")
	l.must("lab", "start", "us-east/b/evcache/2")
	await(t, 30*time.Second, "the repair", func() error {
		_, err := l.cached("missed", "us-east", "--zone", "b")
		return err
	})
}

func cacheWarms(l *lab) {
	t := l.t
	l.must("cache", "set", "kept", "v", "--region", "us-west", "--policy", "all", "--replication", "none")
	l.must("lab", "kill", "us-west/a/evcache/1")
	l.must("lab", "start", "us-west/a/evcache/1")
	await(t, 30*time.Second, "the zone to be filled by itself", func() error {
		it, err := l.cached("kept", "us-west", "--zone", "a")
		if err == nil && it.Text != "v" {
			err = fmt.Errorf("it has %+v", it)
		}
		return err
	})
	l.must("cache", "set", "more", "v", "--region", "us-west", "--policy", "all", "--replication", "none")
	w := read[struct {
		From    string  `json:"from"`
		Copied  int64   `json:"copied"`
		Kept    int64   `json:"kept"`
		Percent float64 `json:"percent"`
	}](l, "cache", "warm", "us-west/a")
	if w.From != "b" || w.Copied+w.Kept < 2 || w.Percent != 100 {
		t.Errorf("%+v", w)
	}
	if it, err := l.cached("kept", "us-west", "--zone", "a"); err != nil || it.Text != "v" {
		t.Errorf("%+v, %v", it, err)
	}
	// What the zone missed while it was away may still be on its way from Kafka.
	await(t, 30*time.Second, "the zones to be equal after the warming", func() error {
		if r := l.must("cache", "check", "--region", "us-west", "--repair=false", "-o", "json"); !strings.Contains(r.stdout, `"equal": true`) {
			return errors.New(tail(r.stdout, 20))
		}
		return nil
	})
}
