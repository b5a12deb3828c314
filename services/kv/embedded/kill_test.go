package embedded_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/kv/embedded"
	"github.com/flix-lab/flix/services/telemetry"
)

// childDir names the directory that a child process of the test serves.
const childDir = "FLIX_TEST_KV_DIR"

// child serves a store until it is killed; it prints its address.
func child(dir string) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s, err := embedded.NewServer(embedded.Config{Dir: dir, Region: "us-east", RPC: l, Tel: telemetry.Discard(), Timing: timing()})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(l.Addr())
	if err := s.Serve(context.Background()); err != nil {
		return 1
	}
	return 0
}

// Every write that was acknowledged before a SIGKILL is there after it.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	dir := t.TempDir()
	acked := map[string]bool{}
	for round := range 3 {
		for k := range writeUntilKilled(t, dir, round) {
			acked[k] = true
		}
	}
	n := newWorld(t).startIn("us-east", dir)
	for k := range acked {
		if got := n.has(k); got != k {
			t.Errorf("%s was acknowledged and is %q", k, got)
		}
	}
	if len(acked) < 30 {
		t.Errorf("only %d writes were acknowledged", len(acked))
	}
}

// writeUntilKilled starts a store, writes from several clients and kills it in
// the midst of that.
func writeUntilKilled(t *testing.T, dir string, round int) map[string]bool {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the child said nothing: %v", err)
	}
	conn, err := grpc.NewClient("passthrough:///"+strings.TrimSpace(addr), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // its server is dead
	store := embedded.NewClient(conn)
	var total atomic.Int64
	results := make(chan []string)
	const writers = 4
	for w := range writers {
		go func() {
			var mine []string
			for i := 0; ; i++ {
				k := fmt.Sprintf("%d-%d-%d", round, w, i)
				if err := store.Put(t.Context(), kv.Bookmarks, "p", kv.Item{Sort: k, Value: []byte(k)}); err != nil {
					results <- mine
					return
				}
				mine = append(mine, k)
				if total.Add(1) == 100 {
					if err := cmd.Process.Kill(); err != nil {
						t.Errorf("kill: %v", err)
					}
				}
			}
		}()
	}
	acked := map[string]bool{}
	for range writers {
		for _, k := range <-results {
			acked[k] = true
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the child was not killed")
	}
	return acked
}
