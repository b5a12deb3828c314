package objects

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/telemetry/telemetrytest"
)

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// The door changes nothing about a store: the embedded one behind it keeps the
// contract, signatures for the door's address included.
func TestContractThroughTheDoor(t *testing.T) {
	contract(t, newBeside(t, newRig(t).addr, t.TempDir()).addr)
}

// The door counts what the embedded store behind it counts.
func TestDoorCountsWhatTheStoreCounts(t *testing.T) {
	r := newRig(t)
	b := newBeside(t, r.addr, t.TempDir())
	b.put("k", noise(100_000, 1))
	b.get("k", 0, 0)
	b.get("k", 10, 90)
	settles(t, "the door's count", func() uint64 { return b.sidecar.EgressBytes(BucketMedia) }, 100_090)
	settles(t, "the store's count", func() uint64 { return r.server.EgressBytes(BucketMedia) }, 100_090)
	for _, m := range []map[string]string{fmtCount("GetObject", 200), fmtCount("GetObject", 206), fmtCount("PutObject", 200)} {
		telemetrytest.Await(t, b.tel.Metrics, "s3_requests_total", m, 1)
		telemetrytest.Await(t, r.tel.Metrics, "s3_requests_total", m, 1)
	}
	b.counts()
}

func TestDoorCountSurvivesRestart(t *testing.T) {
	r := newRig(t)
	b := newBeside(t, r.addr, t.TempDir())
	b.put("k", noise(5000, 1))
	b.get("k", 0, 0)
	if _, err := NewSidecar(SidecarConfig{Target: r.addr, Listener: listenUntilEnd(t), Dir: b.dir, AccessKey: "a", SecretKey: "b", Tel: telemetry.Discard()}); services.KindOf(err) != services.Conflict {
		t.Errorf("a second sidecar on the directory: %v", err)
	}
	b.stop()
	again := newBeside(t, r.addr, b.dir)
	again.get("k", 0, 0)
	telemetrytest.Await(t, again.tel.Metrics, "s3_egress_bytes_total", map[string]string{"bucket": BucketMedia}, 10_000)
}

func listenUntilEnd(t testing.TB) net.Listener {
	ln := listen(t)
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

func TestSidecarFollowsItsStore(t *testing.T) {
	r := newRig(t)
	b := newBeside(t, r.addr, t.TempDir())
	b.turns(true)
	r.stop()
	b.turns(false)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := b.client.Stat(ctx, BucketMedia, "k"); services.KindOf(err) != services.Unavailable {
		t.Errorf("a request without the store: %v", err)
	}
	if code, body := read(t, "http://"+b.addr+"/media/k", ""); code != http.StatusServiceUnavailable {
		t.Errorf("%d %s", code, body)
	}
	r.start()
	b.turns(true)
}

func TestSidecarRefusesBadConfig(t *testing.T) {
	if _, err := NewSidecar(SidecarConfig{}); services.KindOf(err) != services.Invalid {
		t.Errorf("got %v", err)
	}
	s, err := NewSidecar(SidecarConfig{Target: "127.0.0.1:1", Listener: listen(t), Dir: t.TempDir(), AccessKey: "a", SecretKey: "b", Tel: telemetry.Discard()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
