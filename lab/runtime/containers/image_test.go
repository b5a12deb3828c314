package containers

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flix-lab/flix/lab/runtime/host"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// ownImageOf names an image of the runtime's program on top of another.
func ownImageOf(t *testing.T, r *Runtime, base string) *ownImage {
	t.Helper()
	binary, err := os.ReadFile(r.c.Exe)
	if err != nil {
		t.Fatal(err)
	}
	_, tag := imageOf(base, binary)
	return &ownImage{tag: tag, base: base}
}

// TestFlixChanges makes an image of a program that is no longer what it was
// when the image was named: the next who asks gets the new one's.
func TestFlixChanges(t *testing.T) {
	e := newOdd(t)
	r := e.runtime(topology.Containers{})
	r.image = &ownImage{tag: "flix/lab:before", base: scratch}
	wantError(t, r.imageFor(t.Context(), declaration{ID: "north/a/play/1", Serves: true, Image: "flix/lab:before"}), services.Conflict, "has changed", "again")
	if r.image != nil {
		t.Errorf("the name of the old image stays: %s", r.image.tag)
	}
}

// TestSlowDial has the first connections to a container time out, as they do on
// a machine that is far behind: it is asked again.
func TestSlowDial(t *testing.T) {
	r := newOdd(t).runtime(topology.Containers{})
	var started atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { started.Store(req.URL.Path == "/start") }))
	t.Cleanup(srv.Close)
	dials := 0
	h := host.NewClient("http://pack", "", func(ctx context.Context, network, _ string) (net.Conn, error) {
		if dials++; dials <= 2 {
			past, cancel := context.WithDeadline(ctx, time.Unix(1, 0))
			defer cancel()
			return (&net.Dialer{}).DialContext(past, network, srv.Listener.Addr().String())
		}
		return (&net.Dialer{}).DialContext(ctx, network, srv.Listener.Addr().String())
	})
	if err := r.tellOne(t.Context(), h, declaration{ID: "north/a/play/1"}); err != nil || !started.Load() || dials != 3 {
		t.Errorf("%v after %d dials, started %v", err, dials, started.Load())
	}
}
