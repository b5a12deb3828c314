package evcache

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
)

// shardedZones are zones a and b of two servers each, on addresses of their own.
func shardedZones(t *testing.T) (map[string][]*node, []Node) {
	servers := map[string][]*node{}
	var nodes []Node
	for i, zone := range []string{"a", "a", "b", "b"} {
		n := newNode(t, fmt.Sprintf("127.0.0.%d:0", 2+i), 0)
		servers[zone] = append(servers[zone], n)
		nodes = append(nodes, Node{Addr: n.addr, Zone: zone})
	}
	return servers, nodes
}

func flushZone(servers []*node) {
	for _, s := range servers {
		s.server.cache.flush(0)
	}
}

func TestWarm(t *testing.T) {
	servers, nodes := shardedZones(t)
	warm(t, nodes, func() { flushZone(servers["b"]) })
}

// warm empties zone b, fills it from a, and looks what is there.
func warm(t *testing.T, nodes []Node, empty func()) {
	ctx := t.Context()
	c := newClient(t, Config{Zone: "b", Prefix: "app", Policy: All, ChunkSize: DefaultChunkSize, CompressOver: -1}, nodes...)
	const items = 500
	for i := range items {
		ttl := time.Hour
		if i%2 == 0 {
			ttl = 0
		}
		if err := c.Set(ctx, fmt.Sprint("k", i), []byte(fmt.Sprint("v", i)), ttl); err != nil {
			t.Fatal(err)
		}
	}
	big := string(noise(50_000))
	if err := c.Set(ctx, "big", []byte(big), time.Hour); err != nil {
		t.Fatal(err)
	}
	empty()
	if err := newClient(t, Config{Prefix: "app"}, nodes[2:]...).Set(ctx, "k7", []byte("newer"), 0); err != nil {
		t.Fatal(err)
	}
	var told []Warmed
	w, err := c.Warm(ctx, WarmOptions{Zone: "b", Progress: func(w Warmed) { told = append(told, w) }})
	if err != nil {
		t.Fatal(err)
	}
	if w.From != "a" || w.Kept != 1 || w.Copied != w.Items-1 || w.Copied < items || w.Percent() != 100 {
		t.Errorf("%+v", w)
	}
	if len(told) < 2 || told[0].Copied != 0 || told[len(told)-1] != w {
		t.Errorf("told %+v", told)
	}
	for i := range items {
		it, err := c.GetItemIn(ctx, "b", fmt.Sprint("k", i))
		want := fmt.Sprint("v", i)
		if i == 7 {
			want = "newer"
		}
		if err != nil || string(it.Value) != want {
			t.Errorf("k%d: %q, %v", i, it.Value, err)
		}
	}
	if it, err := c.GetItemIn(ctx, "b", "big"); err != nil || string(it.Value) != big {
		t.Errorf("%d bytes in %d pieces (%v)", len(it.Value), it.Chunks, err)
	}
	res, err := c.Check(ctx, CheckOptions{Sample: 2000})
	if err != nil || res.Values != 1 || res.Missing+res.Expiries != 0 || res.Keys != items+1 || len(res.Differences) != 1 || res.Differences[0].Key != "app:k7" {
		t.Errorf("%+v, %v", res, err)
	}
}

// Keys that only the binary protocol can name are copied too, if there is a way to
// ask for them.
func TestWarmOfKeysWithBlanks(t *testing.T) {
	servers, nodes := zones(t, 2)
	from, to := servers[0].server, servers[1].server
	long := strings.Repeat("l ", 125)
	for _, key := range []string{"a b", " ", "tab\tand+plus", "kept too", long} {
		talk(from, bin(opSet, 1, 0, "\x00\x00\x00\x05\x00\x00\x0e\x10", key, "v of "+key))
	}
	talk(to, bin(opSet, 1, 0, "\x00\x00\x00\x00\x00\x00\x00\x00", "kept too", "newer"))
	c := newClient(t, Config{}, nodes...)
	w, err := c.Warm(t.Context(), WarmOptions{Zone: "b"})
	if err != nil || w.Copied != 3 || w.Kept != 1 || w.Skipped != 1 || w.Percent() != 100 {
		t.Errorf("%+v, %v", w, err)
	}
	for key, want := range map[string]string{"a b": "v of a b", " ": "v of  ", "tab\tand+plus": "v of tab\tand+plus", "kept too": "newer"} {
		if a := binAnswers(t, talk(to, bin(opGet, 1, 0, "", key, "")))[0]; a.value != want || want != "newer" && a.extras != "\x00\x00\x00\x05" {
			t.Errorf("%q: %+v", key, a)
		}
	}
	if out := talk(to, "mg YSBi b t\r\n"); out != "HD t3600\r\n" && out != "HD t3599\r\n" {
		t.Errorf("the time to live: %q", out)
	}
	if out := talk(to, "lru_crawler metadump all\r\n"); !strings.Contains(out, "key=a%20b ") {
		t.Errorf("the list says %q", out)
	}
	if res, err := c.Check(t.Context(), CheckOptions{Sample: 100}); err != nil || res.Keys != 0 && res.Missing > 0 {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestWarmRefuses(t *testing.T) {
	_, nodes := zones(t, 2)
	c := newClient(t, Config{}, nodes...)
	for _, o := range []WarmOptions{{Zone: "z"}, {Zone: "a", From: "a"}, {Zone: "a", From: "z"}, {}} {
		if _, err := c.Warm(t.Context(), o); services.KindOf(err) != services.Invalid && services.KindOf(err) != services.NotFound {
			t.Errorf("%+v: %v", o, err)
		}
	}
	alone := newClient(t, Config{}, nodes[0])
	if _, err := alone.Warm(t.Context(), WarmOptions{Zone: "a"}); services.KindOf(err) != services.Unavailable {
		t.Errorf("without a sibling: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Warm(ended, WarmOptions{Zone: "a"}); err == nil {
		t.Error("it went on without its caller")
	}
}

// The rate is a bound: 200 items at 1000 a second take about 0.2 s.
func TestWarmKeepsItsRate(t *testing.T) {
	servers, nodes := zones(t, 2)
	c := newClient(t, Config{Policy: All}, nodes...)
	for i := range 3 * warmBatch {
		if err := c.Set(t.Context(), fmt.Sprint(i), []byte("v"), 0); err != nil {
			t.Fatal(err)
		}
	}
	flushZone(servers[1:])
	start := time.Now()
	if _, err := c.Warm(t.Context(), WarmOptions{Zone: "b", PerSecond: 1000}); err != nil {
		t.Fatal(err)
	}
	if d, least := time.Since(start), 2*warmBatch*time.Millisecond; d < least {
		t.Errorf("%d items took %v, less than %v", 3*warmBatch, d, least)
	}
}

func TestCheckRepairs(t *testing.T) {
	servers, nodes := zones(t, 3)
	ctx := t.Context()
	c := newClient(t, Config{Prefix: "app", Policy: All, ChunkSize: DefaultChunkSize, CompressOver: -1}, nodes...)
	big := string(noise(20_000))
	for _, k := range []string{"same", "missing", "value", "expiry", "long life"} {
		if err := c.Set(ctx, k, []byte("v"), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Set(ctx, "big", []byte(big), time.Hour); err != nil {
		t.Fatal(err)
	}
	in := func(i int) *lru { return servers[i].server.cache }
	in(0).delete([]byte("app:missing"), 0)
	in(1).store(entry{key: []byte("app:value"), value: []byte("other"), flags: uint32(Bytes), exptime: 9999})
	in(2).touch([]byte("app:expiry"), 60)
	in(2).store(entry{key: []byte("app:big_03"), value: noise(1098)})
	res, err := c.Check(ctx, CheckOptions{})
	if err != nil || res.Keys != 6 || res.Equal != 2 || res.Missing != 2 || res.Values != 1 || res.Expiries != 1 || res.Repaired != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	if res, err = c.Check(ctx, CheckOptions{Repair: true}); err != nil || res.Repaired != 4 {
		t.Fatalf("%+v, %v", res, err)
	}
	if res, err = c.Check(ctx, CheckOptions{}); err != nil || res.Equal != 6 || len(res.Differences) != 0 {
		t.Errorf("after the repair %+v, %v", res, err)
	}
	for _, zone := range []string{"a", "b", "c"} {
		for k, v := range map[string]string{"missing": "v", "value": "v", "big": big} { // the majority's
			if it, err := c.GetItemIn(ctx, zone, k); err != nil || string(it.Value) != v {
				t.Errorf("%s in %s: %.20q, %v", k, zone, it.Value, err)
			}
		}
	}
	if _, err := c.Check(ctx, CheckOptions{Sample: MaxSample + 1}); services.KindOf(err) != services.Invalid {
		t.Errorf("too large a sample: %v", err)
	}
}

// What is left of the zones is compared, and who is not is named.
func TestCheckWithoutAZone(t *testing.T) {
	servers, nodes := zones(t, 3)
	c := newClient(t, Config{Prefix: "app", Policy: All}, nodes...)
	for _, k := range []string{"same", "missing"} {
		if err := c.Set(t.Context(), k, []byte("v"), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	servers[0].server.cache.delete([]byte("app:missing"), 0)
	for _, want := range []struct {
		down    int
		zones   string
		left    string
		keys    int
		missing int
	}{{2, "[a b]", "c", 2, 1}, {1, "[]", "bca", 0, 0}, {0, "[]", "abc", 0, 0}} {
		servers[want.down].stop()
		res, err := c.Check(t.Context(), CheckOptions{})
		if err != nil || fmt.Sprint(res.Zones) != want.zones || res.Keys != want.keys || res.Missing != want.missing {
			t.Errorf("without zone %s: %+v, %v", nodes[want.down].Zone, res, err)
		}
		left := ""
		for _, z := range res.LeftOut {
			left += z.Zone
			i := slices.IndexFunc(nodes, func(n Node) bool { return n.Zone == z.Zone })
			if why := z.Error; !strings.Contains(why, nodes[i].Addr) && (len(left) < 3 || !strings.Contains(why, "no other zone answers")) {
				t.Errorf("without zone %s: left out is %+v", nodes[want.down].Zone, z)
			}
		}
		if left != want.left {
			t.Errorf("without zone %s: %s are left out, want %s", nodes[want.down].Zone, left, want.left)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Check(ended, CheckOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("without its caller: %v", err)
	}
}

// A server that takes connections and falls silent holds nobody up: a warming
// keeps its zone from its readers.
func TestWarmFromASilentServer(t *testing.T) {
	for stats, answer := range map[string]string{"silent": "", "told": "STAT curr_items 1\r\nSTAT bytes 9\r\nEND\r\n"} {
		t.Run("statistics "+stats, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			defer wg.Wait()
			defer ln.Close()
			wg.Go(func() {
				for {
					conn, err := ln.Accept()
					if err != nil {
						return
					}
					wg.Go(func() {
						defer conn.Close()
						for r := bufio.NewReader(conn); ; {
							line, err := r.ReadString('\n')
							if err != nil {
								return
							}
							if line == "stats\r\n" {
								_, _ = io.WriteString(conn, answer) // a client that is gone is the end of the test
							}
						}
					})
				}
			})
			_, nodes := zones(t, 1)
			c := newClient(t, Config{Timeouts: Timeouts{Dial: patience, Read: patience, Write: 100 * time.Millisecond}}, nodes[0], Node{Addr: ln.Addr().String(), Zone: "b", Instance: "us-east/b/evcache/2"})
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err = c.Warm(ctx, WarmOptions{Zone: "a", From: "b"})
			if services.KindOf(err) != services.Unavailable || ctx.Err() != nil {
				t.Errorf("%v, %v", err, ctx.Err())
			}
			if p := services.ProblemOf(err); !strings.Contains(err.Error(), "us-east/b/evcache/2 at "+ln.Addr().String()) || p.Remedy == "" {
				t.Errorf("it says neither who nor what to do: %v, %q", err, p.Remedy)
			}
		})
	}
}

func TestMetadump(t *testing.T) {
	now := &clock{time.Unix(1_700_000_000, 0)}
	s := newTestServer(t, 0, now.now)
	talk(s, "set a 0 60 1\r\nx\r\nset b%20 0 0 2\r\nyy\r\nset gone 0 1 1\r\nx\r\nget a\r\n")
	now.t = now.t.Add(10 * time.Second)
	out := talk(s, "lru_crawler metadump all\r\nlru_crawler metadump 1,2\r\nlru_crawler enable\r\nversion\r\n")
	want := "key=b%2520 exp=-1 la=1700000000 cas=2 fetch=no cls=1 size=198\nkey=a exp=1700000060 la=1700000000 cas=1 fetch=yes cls=1 size=194\nEND\r\nERROR\r\nOK\r\nVERSION " + serverVersion + "\r\n"
	if out != want {
		t.Errorf("\n got %q\nwant %q", out, want)
	}
}

// Tools from before the crawler list the keys of each class of slabs.
func TestCacheDump(t *testing.T) {
	now := &clock{time.Unix(1_700_000_000, 0)}
	s := newTestServer(t, 0, now.now)
	talk(s, "set a 0 60 1\r\nx\r\nset b 0 0 2\r\nyy\r\n")
	s.cache.store(entry{key: []byte("c\r\nd e"), value: []byte("zzz")})
	for in, want := range map[string]string{
		"stats items\r\n":                "STAT items:1:number 3\r\nEND\r\n",
		"stats cachedump 1 0\r\n":        "ITEM a [1 b; 1700000060 s]\r\nITEM b [2 b; 0 s]\r\nITEM c%0D%0Ad%20e [3 b; 0 s]\r\nEND\r\n",
		"stats cachedump 1 1\r\n":        "ITEM a [1 b; 1700000060 s]\r\nEND\r\n",
		"stats cachedump 2 0\r\n":        "END\r\n",
		"stats cachedump 64 0\r\n":       "CLIENT_ERROR Illegal slab id\r\n",
		"stats cachedump\r\n":            "CLIENT_ERROR bad command line\r\n",
		"stats cachedump one 0\r\n":      "CLIENT_ERROR bad command line format\r\n",
		"lru_crawler metadump 1\r\n":     "ERROR\r\n",
		"stats slabs\r\nstats conns\r\n": "END\r\nEND\r\n",
	} {
		if out := talk(s, in); out != want {
			t.Errorf("%q:\n got %q\nwant %q", in, out, want)
		}
	}
}

// A crawl goes on over items that come, move and go, and ends.
func TestCrawlAmongWriters(t *testing.T) {
	l := newLRU(192<<10, time.Now)
	for i := range 800 {
		l.store(entry{key: fmt.Append(nil, i), value: []byte("v")})
	}
	seen, listed := map[string]bool{}, map[string]bool{}
	steps := 0
	busy, err := l.crawl(func(step []crawled) error {
		steps++
		for _, it := range step {
			seen[it.key] = true
		}
		if busy, _ := l.crawl(nil); !busy {
			t.Error("two crawls at once")
		}
		for _, it := range step { // reading what is listed is no reason to list it again
			l.get([]byte(it.key))
			if !strings.HasPrefix(it.key, "new") && listed[it.key] {
				t.Errorf("%s comes twice", it.key)
			}
			listed[it.key] = true
		}
		for i := range 50 {
			l.get(fmt.Append(nil, i))
			l.store(entry{key: fmt.Append(nil, "new", steps, i), value: []byte("v")}) // others go
		}
		if steps == 5 {
			l.flush(0)
		}
		return nil
	})
	if busy || err != nil || steps < 3 || len(seen) < 200 {
		t.Errorf("%d keys in %d steps (%v, %v)", len(seen), steps, busy, err)
	}
	stop := errors.New("stop")
	l.store(entry{key: []byte("k"), value: []byte("v")})
	if _, err := l.crawl(func([]crawled) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	if busy, _ := l.crawl(func([]crawled) error { return nil }); busy {
		t.Error("it crawls still")
	}
}

func FuzzDumpLine(f *testing.F) {
	f.Add("key=app%3Ak exp=1700000000 la=1 cas=2 fetch=yes cls=1 size=77")
	f.Add("key=%zz exp=-1")
	f.Add("key=a exp=x size=")
	f.Fuzz(func(t *testing.T, line string) {
		d, ok := parseDumpLine(line)
		if ok && !lineKey([]byte(d.key)) {
			t.Errorf("%q is a key", d.key)
		}
		if again, ok2 := parseDumpLine(strings.TrimRight(string(crawled{key: d.key, size: d.size}.line(nil)), "\n")); ok && (!ok2 || again.key != d.key) {
			t.Errorf("%q becomes %q", d.key, again.key)
		}
	})
}
