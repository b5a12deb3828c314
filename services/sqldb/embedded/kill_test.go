package embedded_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/services/sqldb/embedded"
	"github.com/flix-lab/flix/services/telemetry"
)

// childDir names the directory that a child process of the test serves.
const childDir = "FLIX_TEST_SQL_DIR"

// child serves a primary until it is killed; it prints its address.
func child(dir string) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s, err := embedded.NewServer(embedded.Config{Dir: dir, Region: "us-east", RPC: l, Primary: true, Tel: telemetry.Discard(), Timing: timing()})
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

// Every write that was acknowledged before a SIGKILL is there after it, and
// the log says the same as the tables: a new replica plays it to the same end.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	dir := t.TempDir()
	var acked []string
	for round := range 2 {
		acked = append(acked, writeUntilKilled(t, dir, round)...)
	}
	w := newWorld(t)
	a, b := w.startIn("us-east", dir, false), w.start("us-west", false)
	have := a.titles()
	for _, id := range acked {
		if !slices.Contains(have, id) {
			t.Errorf("%s was acknowledged and is gone", id)
		}
	}
	if len(acked) < 30 {
		t.Errorf("only %d writes were acknowledged", len(acked))
	}
	b.holds(have...)
	if a.position() != b.position() || a.position() != uint64(len(have)) {
		t.Errorf("positions %d and %d with %d titles", a.position(), b.position(), len(have))
	}
}

// writeUntilKilled starts a primary, writes from several clients and kills it
// in the midst of that.
func writeUntilKilled(t *testing.T, dir string, round int) []string {
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
	db := embedded.NewClient(conn)
	var total atomic.Int64
	results := make(chan []string)
	const writers = 3
	for w := range writers {
		go func() {
			var mine []string
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d-%d", round, w, i)
				if err := db.PutTitle(t.Context(), sqldb.Title{ID: services.TitleID(id), Name: id}); err != nil {
					results <- mine
					return
				}
				mine = append(mine, id)
				if total.Add(1) == 60 {
					if err := cmd.Process.Kill(); err != nil {
						t.Errorf("kill: %v", err)
					}
				}
			}
		}()
	}
	var acked []string
	for range writers {
		acked = append(acked, <-results...)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the child was not killed")
	}
	return acked
}
