package evcache

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// java is a running original client.
type java struct {
	t   testing.TB
	in  io.Writer
	out *bufio.Reader
	log *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// javaMissing skips the test, or fails it when FLIX_REQUIRE_JAVA is 1.
func javaMissing(t testing.TB, format string, args ...any) {
	t.Helper()
	why := fmt.Sprintf(format, args...)
	if os.Getenv("FLIX_REQUIRE_JAVA") == "1" {
		t.Fatal("FLIX_REQUIRE_JAVA=1: " + why)
	}
	t.Skip(why)
}

// javaClasses compiles testdata/java with the original client from Maven and
// returns the class path. What Maven downloads it keeps in its repository.
func javaClasses(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("a short run leaves the original client out")
	}
	for _, tool := range []string{"java", "javac", "mvn"} {
		if _, err := exec.LookPath(tool); err != nil {
			javaMissing(t, "%s is not on PATH: no original client to compare with (apt-get install openjdk-17-jdk-headless maven)", tool)
		}
	}
	dir := t.TempDir()
	src, err := filepath.Abs("testdata/java")
	if err != nil {
		t.Fatal(err)
	}
	// The project is copied: Maven writes beside it.
	pom, err := os.ReadFile(filepath.Join(src, "pom.xml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pom.xml"), pom, 0o600); err != nil {
		t.Fatal(err)
	}
	mvn := exec.CommandContext(t.Context(), "mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib")
	mvn.Dir = dir
	if out, err := mvn.CombinedOutput(); err != nil {
		javaMissing(t, "Maven does not give the original client: %v\n%s", err, out)
	}
	path := filepath.Join(dir, "lib", "*")
	javac := exec.CommandContext(t.Context(), "javac", "-encoding", "UTF-8", "-cp", path, "-d", dir, filepath.Join(src, "Interop.java"))
	if out, err := javac.CombinedOutput(); err != nil {
		t.Fatalf("javac: %v\n%s", err, out)
	}
	return strings.Join([]string{dir, src, path}, string(os.PathListSeparator))
}

// startJava runs the original client on zones of servers: the applications
// PLAIN and CHUNK, which cuts values.
func startJava(t *testing.T, classes string, nodes []Node) *java {
	t.Helper()
	zones := map[string][]string{}
	for _, n := range nodes {
		ip, port, err := net.SplitHostPort(n.Addr)
		if err != nil {
			t.Fatal(err)
		}
		name := n.Name
		if name == "" {
			name = ip
		}
		zones[n.Zone] = append(zones[n.Zone], name+"/"+ip+":"+port)
	}
	var list []string
	for _, z := range slices.Sorted(maps.Keys(zones)) {
		list = append(list, z+"="+strings.Join(zones[z], ","))
	}
	args := []string{"-Xmx256m", "-XX:TieredStopAtLevel=1", "--add-opens", "java.base/java.lang=ALL-UNNAMED"}
	for k, v := range map[string]string{
		"evcache.use.simple.node.list.provider": "true", "evcache.auto.hash.keys": "true", "default.read.timeout": "60000",
		"PLAIN.operation.timeout": "60000", "CHUNK.operation.timeout": "60000", "CHUNK.EVCacheClientPool.bulkReadTimeout": "60000",
		"PLAIN-NODES": strings.Join(list, ";"), "CHUNK-NODES": strings.Join(list, ";"), "CHUNK.chunk.data": "true",
		"log4j.configuration": "log4j.properties",
	} {
		args = append(args, "-D"+k+"="+v)
	}
	cmd := exec.Command("java", append(args, "-cp", classes, "Interop")...)
	cmd.Env = append(os.Environ(), "EC2_AVAILABILITY_ZONE=a")
	j := &java{t: t, log: &lockedBuffer{}}
	cmd.Stderr = j.log
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	j.in, j.out = in, bufio.NewReaderSize(out, 64<<10)
	t.Cleanup(func() {
		_ = in.Close() // it ends by that
		kill := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("java: %v", err)
		}
		if t.Failed() {
			t.Logf("java's log:\n%s", j.log)
		}
	})
	if l := j.line(); l != "ready" {
		t.Fatalf("java says %q\n%s", l, j.log)
	}
	return j
}

func (j *java) line() string {
	l, err := j.out.ReadString('\n')
	if err != nil {
		j.t.Fatalf("java's answer: %v\n%s", err, j.log)
	}
	return strings.TrimSpace(l)
}

func (j *java) ask(verb, app, key string, more ...string) string {
	j.t.Helper()
	words := append([]string{verb, app, base64.StdEncoding.EncodeToString([]byte(key))}, more...)
	if _, err := io.WriteString(j.in, strings.Join(words, " ")+"\n"); err != nil {
		j.t.Fatal(err)
	}
	return j.line()
}

// get returns the type and value that the original reads; "miss" for none.
func (j *java) get(app, key string) (kind, value string) {
	j.t.Helper()
	a := j.ask("get", app, key)
	f := strings.Fields(a)
	if len(f) == 1 && f[0] == "miss" {
		return "miss", ""
	}
	if len(f) == 2 && f[0] == "ok" { // an empty value
		return f[1], ""
	}
	if len(f) != 3 || f[0] != "ok" {
		j.t.Fatalf("java: get %.60q: %s", key, a)
	}
	v, err := base64.StdEncoding.DecodeString(f[2])
	if err != nil {
		j.t.Fatal(err)
	}
	return f[1], string(v)
}

func (j *java) set(app, key, kind, value string, ttl int) {
	j.t.Helper()
	if a := j.ask("set", app, key, kind, base64.StdEncoding.EncodeToString([]byte(value)), strconv.Itoa(ttl)); !strings.HasPrefix(a, "ok") {
		j.t.Fatalf("java: set %.60q: %s", key, a)
	}
}

// shards are two zones of two servers. The original's node key has a fixed
// port, so every shard of a zone has an address of its own.
func shards(t *testing.T, start func(addr string) string) []Node {
	var out []Node
	for i, n := range []Node{{Zone: "a"}, {Zone: "a"}, {Zone: "b", Name: "cache-1.flix.test"}, {Zone: "b", Name: "cache-2.flix.test"}} {
		n.Addr = start(fmt.Sprintf("127.0.0.%d:0", 2+i))
		out = append(out, n)
	}
	return out
}

// realMemcached runs Debian's on an address until the end of the test.
func realMemcached(t *testing.T) func(addr string) string {
	path, err := exec.LookPath("memcached")
	if err != nil {
		t.Skip("memcached is not on PATH: the embedded server alone is tested (apt-get install memcached)")
	}
	return func(addr string) string {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		addr = ln.Addr().String()
		host, port, _ := net.SplitHostPort(addr)
		_ = ln.Close() // the port is free for memcached now
		cmd := exec.Command(path, "-u", "nobody", "-l", host, "-p", port, "-m", "32", "-t", "1", "-U", "0")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed
		})
		for until := time.Now().Add(patience); ; {
			c, err := net.Dial("tcp", addr)
			if err == nil {
				_ = c.Close()
				return addr
			}
			if time.Now().After(until) {
				t.Fatalf("memcached does not answer: %v", err)
			}
			<-time.After(10 * time.Millisecond)
		}
	}
}

// The original Java client and this one read what the other wrote, on the
// embedded server and on a real memcached.
func TestOriginalClient(t *testing.T) {
	classes := javaClasses(t)
	t.Run("embedded", func(t *testing.T) {
		interop(t, classes, shards(t, func(addr string) string { return newNode(t, addr, 0).addr }))
	})
	t.Run("memcached", func(t *testing.T) { interop(t, classes, shards(t, realMemcached(t))) })
}

func interop(t *testing.T, classes string, nodes []Node) {
	j := startJava(t, classes, nodes)
	plain := newClient(t, Config{Zone: "a", Prefix: "flix", Policy: All, MaxPlainKey: 250}, nodes...)
	chunk := newClient(t, Config{Zone: "b", Prefix: "flix", Policy: All, MaxPlainKey: 250, ChunkSize: DefaultChunkSize}, nodes...)
	clients := map[string]*Client{"PLAIN": plain, "CHUNK": chunk}
	noise := make([]byte, 100_000)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(noise) // never fails
	values := map[string]string{
		"short": "v", "text": "Grüße, 世界 🎬", "at the threshold": strings.Repeat("x", 120), "compressed": strings.Repeat("abc ", 500),
		"incompressible": string(noise[:900]), "one chunk and a bit": string(noise[:1200]), "long": string(noise), "long text": strings.Repeat("flix ", 40_000),
	}
	keys := map[string]string{"plain": "k", "path": "title/1:de", "unicode": "schlüssel", "hashed": strings.Repeat("long-key.", 60)}
	ctx := t.Context()
	for app, c := range clients {
		for keyName, key := range keys {
			for valueName, value := range values {
				id := key + "." + strings.ReplaceAll(valueName, " ", "-")
				t.Run(app+"/"+keyName+"/"+valueName, func(t *testing.T) {
					if err := c.Set(ctx, id, []byte(value), time.Hour); err != nil {
						t.Fatal(err)
					}
					if kind, got := j.get(app, id); kind != "bytes" || got != value {
						t.Errorf("java reads %s of %d bytes, want bytes of %d", kind, len(got), len(value))
					}
					if _, isText := values[valueName]; isText && strings.ToValidUTF8(value, "") == value {
						if err := c.SetAs(ctx, id, []byte(value), Text, time.Hour); err != nil {
							t.Fatal(err)
						}
						if kind, got := j.get(app, id); kind != "string" || got != value {
							t.Errorf("java reads %s of %d bytes, want a string of %d", kind, len(got), len(value))
						}
						j.set(app, id, "string", value+"!", 3600)
						readBoth(t, clients[app], id, Text, value+"!")
					}
					j.set(app, id, "bytes", value+"?", 3600)
					readBoth(t, clients[app], id, Bytes, value+"?")
					if a := j.ask("delete", app, id); !strings.HasPrefix(a, "ok") {
						t.Errorf("java: delete: %s", a)
					}
					if _, err := c.Get(ctx, id); err != ErrMiss { //nolint:errorlint // itself is returned
						t.Errorf("what java deleted: %v", err)
					}
				})
			}
		}
	}
	t.Run("other types", func(t *testing.T) {
		for _, x := range []struct{ kind, value string }{{"int", "-7"}, {"int", "0"}, {"long", "1700000000000"}, {"boolean", "true"}, {"double", "2.5"}} {
			j.set("PLAIN", "typed", x.kind, x.value, 60)
			it, err := plain.GetItem(ctx, "typed")
			if err != nil || it.Kind.String() != x.kind || it.String() != x.value {
				t.Errorf("%s %s reads as %s %q (%v)", x.kind, x.value, it.Kind, it, err)
			}
		}
	})
	t.Run("append or add", func(t *testing.T) {
		for _, part := range []string{"one", ",two"} {
			if err := plain.AppendOrAdd(ctx, "list", []byte(part), time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		if a := j.ask("append", "PLAIN", "list", "bytes", base64.StdEncoding.EncodeToString([]byte(",three")), "3600"); !strings.HasPrefix(a, "ok") {
			t.Fatal(a)
		}
		if kind, got := j.get("PLAIN", "list"); kind != "bytes" || got != "one,two,three" {
			t.Errorf("java reads %s %q", kind, got)
		}
		want(t, plain, "list", "one,two,three")
	})
	t.Run("time to live", func(t *testing.T) {
		j.set("PLAIN", "ttl", "string", "v", 3600)
		if a := j.ask("touch", "PLAIN", "ttl", "1"); a != "ok 2" {
			t.Fatal(a)
		}
		missSoon(t, plain, "ttl")
		if err := plain.Set(ctx, "ttl2", []byte("v"), time.Hour); err != nil {
			t.Fatal(err)
		}
		if err := plain.Touch(ctx, "ttl2", time.Second); err != nil {
			t.Fatal(err)
		}
		missSoon(t, plain, "ttl2")
		if kind, _ := j.get("PLAIN", "ttl2"); kind != "miss" {
			t.Errorf("java reads %s of what has expired", kind)
		}
	})
	t.Run("placing", func(t *testing.T) {
		// Both clients must look for a key in the same server of each zone.
		const n = 300
		for i := range n {
			j.set("PLAIN", fmt.Sprintf("place-%d", i), "string", "v", 3600)
		}
		spread := map[string]int{}
		for i := range n {
			id := fmt.Appendf(nil, "flix:place-%d", i)
			for _, zone := range []string{"a", "b"} {
				z, err := plain.zone(zone)
				if err != nil {
					t.Fatal(err)
				}
				v, _, err := plain.lay.getIn(ctx, z, id)
				if err != nil || string(v.value) != "v" {
					t.Errorf("%s is not in %s of zone %s: %v", id, z.pick(id).addr, zone, err)
				}
				spread[z.pick(id).addr]++
			}
		}
		if len(spread) != len(nodes) {
			t.Errorf("the keys are on %v only", spread)
		}
	})
}

// readBoth reads an item from each zone.
func readBoth(t *testing.T, c *Client, key string, k Kind, value string) {
	t.Helper()
	for _, zone := range []string{"a", "b"} {
		it, err := c.GetItemIn(t.Context(), zone, key)
		if err != nil || it.Kind != k || string(it.Value) != value {
			t.Errorf("zone %s: %s of %d bytes (%v), want %s of %d", zone, it.Kind, len(it.Value), err, k, len(value))
		}
	}
}
