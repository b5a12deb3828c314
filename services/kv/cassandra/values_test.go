package cassandra

import (
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv"
)

func TestClock(t *testing.T) {
	now := time.UnixMicro(1_000_000)
	c := &clock{now: func() time.Time { return now }}
	if a, b := c.tick(), c.tick(); a != 1_000_000 || b != 1_000_001 {
		t.Errorf("ticks %d, %d of one instant", a, b)
	}
	c.observe(2_000_000)
	c.observe(5)
	if got := c.tick(); got != 2_000_001 {
		t.Errorf("tick after an observation = %d", got)
	}
	now = now.Add(-time.Hour)
	if got := c.tick(); got != 2_000_002 {
		t.Errorf("tick with the clock set back = %d", got)
	}
	if got := c.latest(); got != 2_000_002 {
		t.Errorf("latest = %d", got)
	}
}

// A ballot, a plain write after it and a ballot after that have rising times.
func TestAfterBallot(t *testing.T) {
	for _, us := range []int64{0, 1, 999, 1000, 1_500_001} {
		read := time.UnixMicro(us).Truncate(time.Millisecond) // all that a node tells
		ballot := us/ballotUnit*ballotUnit + 999              // the last of this millisecond
		after := afterBallot(read)
		next := (read.UnixMicro() + ballotMargin) / ballotUnit * ballotUnit // the first that settle lets through
		if after <= ballot || next <= after {
			t.Errorf("at %dµs: ballot %d, then a write at %d, then a ballot %d", us, ballot, after, next)
		}
	}
}

// An item lives for its TTL, whenever in a second it was written, and for less
// than a second longer.
func TestSeconds(t *testing.T) {
	for _, ttl := range []time.Duration{time.Millisecond, 30 * time.Millisecond, time.Second, 1500 * time.Millisecond, time.Hour} {
		for into := time.Duration(0); into < time.Second; into += 100 * time.Millisecond {
			now := time.Unix(1_700_000_000, 0).Add(into)
			ends := time.Unix(1_700_000_000+int64(seconds(ttl, now)), 0)
			if lives := ends.Sub(now); lives < ttl || lives >= ttl+time.Second {
				t.Errorf("with a TTL of %v, written %v into a second, it lives for %v", ttl, into, lives)
			}
		}
	}
	if got := seconds(0, time.Now()); got != 0 {
		t.Errorf("no TTL is %d s", got)
	}
}

func FuzzPageToken(f *testing.F) {
	for _, s := range []string{"", ".", ".YQ", "not a token", pageToken("\x00ü")} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if last, ok := lastOfPage(token); ok && token != "" {
			if back, ok := lastOfPage(pageToken(last)); !ok || back != last {
				t.Errorf("token of %q does not come back", last)
			}
		}
	})
}

func TestLastOfEach(t *testing.T) {
	item := func(sort, value string) kv.Item { return kv.Item{Sort: sort, Value: []byte(value)} }
	got := lastOfEach([]kv.Item{item("a", "1"), item("b", "2"), item("a", "3")})
	if len(got) != 2 || got[0].Sort != "b" || string(got[1].Value) != "3" {
		t.Errorf("lastOfEach = %v", got)
	}
}

func TestReplicationCheck(t *testing.T) {
	for _, c := range []struct {
		r  Replication
		ok bool
	}{
		{Replication{"a": 1}, true},
		{Replication{"a": 3}, true},
		{Replication{"a": 1, "b": 1}, true},
		{Replication{"a": 1, "b": 1, "c": 1}, true},
		{Replication{"a": 3, "b": 3}, true},
		{Replication{"a": 2, "b": 1}, false},        // 2 of 3
		{Replication{"a": 2, "b": 2, "c": 1}, true}, // 3 of 5
		{Replication{"a": 3, "b": 1}, false},        // a alone has 3 of 4
		{Replication{"a": 0}, false},
		{Replication{"a'": 1}, false},
		{Replication{}, false},
	} {
		if err := c.r.Check(); (err == nil) != c.ok || err != nil && services.KindOf(err) != services.Invalid {
			t.Errorf("Check of %v = %v", c.r, err)
		}
	}
}

// The table's id is the same wherever it is made, and each keyspace's its own.
func TestTableID(t *testing.T) {
	got := tableID("flix")
	if got != tableID("flix") || got == tableID("other") || len(got) != 36 || got[14] != '8' {
		t.Errorf("tableID = %s, of another keyspace %s", got, tableID("other"))
	}
}
