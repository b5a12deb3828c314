package embedded_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/search"
	"github.com/flix-lab/flix/services/search/embedded"
	"github.com/flix-lab/flix/services/search/searchtest"
	"github.com/flix-lab/flix/services/telemetry"
)

// bleve starts its analysis workers when the program starts.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.IgnoreCurrent()) }

func TestContract(t *testing.T) {
	idx, _ := start(t, t.TempDir())
	searchtest.Run(t, func(testing.TB) search.Index { return idx })
}

// start serves the index in a directory until stop or the end of the test.
func start(t *testing.T, dir string) (idx search.Index, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tel := telemetry.Discard()
	s, err := embedded.NewServer(embedded.Config{Dir: dir, RPC: l, Tel: tel})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	conn, err := grpc.NewClient("passthrough:///"+l.Addr().String(), append(tel.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	idx = embedded.NewClient(conn)
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := errors.Join(<-done, idx.Close(), conn.Close()); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
	t.Cleanup(stop)
	return idx, stop
}

func TestRestartKeepsDocuments(t *testing.T) {
	dir := t.TempDir()
	idx, stop := start(t, dir)
	if err := idx.Put(t.Context(), searchtest.Catalogue()...); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := idx.Search(t.Context(), "harbor", 1); services.KindOf(err) != services.Unavailable {
		t.Errorf("a stopped server answered: %v", err)
	}
	idx, _ = start(t, dir)
	if hits, err := idx.Search(t.Context(), "harbor lights", 1); err != nil || len(hits) != 1 || hits[0].ID != "tt-harbor-lights" {
		t.Errorf("Search after a restart = %v, %v", hits, err)
	}
}

// A process that dies while it makes the index leaves a directory that bleve
// neither opens nor overwrites.
func TestHalfMadeIndexIsMadeAgain(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "titles", "store"), 0o700); err != nil {
		t.Fatal(err)
	}
	idx, _ := start(t, dir)
	if err := idx.Put(t.Context(), searchtest.Catalogue()...); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		s, err := embedded.NewServer(embedded.Config{Dir: b.TempDir(), RPC: l, Tel: telemetry.Discard()})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		ctx, cancel := context.WithCancel(b.Context())
		cancel()
		if err := s.Serve(ctx); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
