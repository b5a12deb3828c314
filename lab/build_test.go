package lab

import (
	"context"
	"net"
	"net/http"
	"slices"
	"testing"

	"github.com/flix-lab/flix/lab/control"
)

// build is a daemon that says which build it is.
type build struct {
	control.Engine
	version string
}

func (b build) Version() string { return b.version }

// A client hears of a daemon of another build, and of one from before it told.
func TestDaemonOfAnotherBuild(t *testing.T) {
	daemons := map[string]func(context.Context, net.Listener){
		"same":  func(ctx context.Context, ln net.Listener) { _ = control.Serve(ctx, ln, build{version: "v2"}, nil) },
		"older": func(ctx context.Context, ln net.Listener) { _ = control.Serve(ctx, ln, build{version: "v1"}, nil) },
		"mute":  func(_ context.Context, ln net.Listener) { _ = http.Serve(ln, http.NotFoundHandler()) },
	}
	for name, want := range map[string][]string{"same": nil, "older": {"v1"}, "mute": {""}} {
		t.Run(name, func(t *testing.T) {
			var heard []string
			e := testEnv(t)
			e.Version, e.Differs = "v2", func(daemon string) { heard = append(heard, daemon) }
			p := testPaths(t, e, "x")
			if err := p.make(); err != nil {
				t.Fatal(err)
			}
			ln, err := net.Listen("unix", p.Socket())
			if err != nil {
				t.Fatal(err)
			}
			ctx, end := context.WithCancel(t.Context())
			served := make(chan struct{})
			go func() { defer close(served); daemons[name](ctx, ln) }()
			if _, err := EnsureDaemon(t.Context(), e, p); err != nil || !slices.Equal(heard, want) {
				t.Errorf("heard %q, want %q (%v)", heard, want, err)
			}
			end()
			_ = ln.Close()
			<-served
		})
	}
}
