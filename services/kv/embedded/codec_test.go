package embedded

import (
	"bytes"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services/kv/kvpb"
)

func FuzzKeys(f *testing.F) {
	f.Add("bookmarks", "m-1", "tt-harbor", "m-2")
	f.Add("a\x00", "\x00\x01", "\x00", "\x00\x01\xff")
	f.Add("", "", "", "")
	f.Fuzz(func(t *testing.T, ns, partition, sort, other string) {
		key := cellKey(ns, partition, sort)
		n, p, s, err := splitKey(key)
		if err != nil || n != ns || p != partition || s != sort {
			t.Fatalf("splitKey = %q %q %q, %v; want %q %q %q", n, p, s, err, ns, partition, sort)
		}
		prefix := partitionKey(ns, partition)
		if !bytes.HasPrefix(key, prefix) || bytes.Compare(key, partitionEnd(prefix)) >= 0 {
			t.Error("the key is outside its partition")
		}
		if o := partitionKey(ns, other); other != partition && (bytes.HasPrefix(o, prefix) || bytes.HasPrefix(prefix, o)) {
			t.Errorf("partition %q is a prefix of %q, or the other way round", partition, other)
		}
		if got, want := strings.Compare(string(partitionKey(ns, other)), string(prefix)), strings.Compare(other, partition); got != want {
			t.Errorf("partitions %q and %q sort %d, want %d", other, partition, got, want)
		}
	})
}

func FuzzSplitKey(f *testing.F) {
	f.Add(cellKey("ns", "p", "s"))
	f.Add([]byte("d\x00\x02"))
	f.Add([]byte("d\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if ns, p, s, err := splitKey(b); err == nil && !bytes.Equal(cellKey(ns, p, s), b) {
			t.Errorf("%x splits to %q %q %q, which is %x", b, ns, p, s, cellKey(ns, p, s))
		}
	})
}

func FuzzDecodeCell(f *testing.F) {
	f.Add(cell{hlc: 1 << 40, expires: -1, region: "us-east", value: []byte("v")}.encode())
	f.Add(cell{tombstone: true}.encode())
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := decodeCell(b); err == nil && !bytes.Equal(c.encode(), b) {
			t.Errorf("%x decodes to %+v, which is %x", b, c, c.encode())
		}
	})
}

func FuzzPageToken(f *testing.F) {
	f.Add(".", "")
	f.Add(".YQ", "a")
	f.Add("x", "\xff\x00")
	f.Fuzz(func(t *testing.T, token, sort string) {
		if token != "" {
			lastOfPage(token)
		}
		if got, ok := lastOfPage(pageToken(sort)); !ok || got != sort {
			t.Errorf("the token of %q is that of %q", sort, got)
		}
	})
}

func TestBeats(t *testing.T) {
	cells := []cell{{hlc: 2, region: "b"}, {hlc: 1, region: "z"}, {hlc: 2, region: "c"}, {hlc: 2, region: "a"}}
	sort.Slice(cells, func(i, j int) bool { return cells[j].beats(cells[i]) })
	var got []string
	for _, c := range cells {
		got = append(got, c.region)
	}
	if strings.Join(got, "") != "zabc" {
		t.Errorf("order is %v", got)
	}
	if c := cells[0]; c.beats(c) {
		t.Error("a cell beats itself: merging it again would write")
	}
}

func TestClockNeverGoesBack(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	c := &clock{now: func() time.Time { return now }}
	last := uint64(0)
	for i, step := range []time.Duration{0, 0, time.Second, -time.Hour, 0, time.Hour} {
		now = now.Add(step)
		h := c.tick()
		if h <= last {
			t.Errorf("tick %d is %d after %d", i, h, last)
		}
		last = h
	}
	c.observe(last + 100)
	if h := c.tick(); h != last+101 {
		t.Errorf("tick after observing %d is %d", last+100, h)
	}
	if !timeOf(stampOf(now)).Equal(now) {
		t.Errorf("timeOf(stampOf(%v)) = %v", now, timeOf(stampOf(now)))
	}
}

func TestHolds(t *testing.T) {
	a := &kvpb.Cell{Value: []byte("a")}
	cases := []struct {
		name    string
		cond    *kvpb.Condition
		current *kvpb.Cell
		want    bool
	}{
		{"absent and nothing there", &kvpb.Condition{Absent: true}, nil, true},
		{"absent and something there", &kvpb.Condition{Absent: true}, a, false},
		{"equal", &kvpb.Condition{ValueEquals: []byte("a")}, a, true},
		{"different", &kvpb.Condition{ValueEquals: []byte("b")}, a, false},
		{"empty value is not absence", &kvpb.Condition{}, nil, false},
		{"empty value", &kvpb.Condition{}, &kvpb.Cell{}, true},
	}
	for _, c := range cases {
		if got := holds(c.cond, c.current); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
