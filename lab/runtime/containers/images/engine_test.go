package images_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flix-lab/flix/lab/runtime/containers/images"
	"github.com/flix-lab/flix/services"
)

// fake serves an engine's API on a socket and returns an environment that names
// it.
func fake(t *testing.T, version string, handle http.HandlerFunc) func(string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "d.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", version)
		if strings.HasSuffix(r.URL.Path, "/_ping") {
			return
		}
		handle(w, r)
	})}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		if err := errors.Join(srv.Close(), <-done); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return host("unix://" + path)
}

func host(h string) func(string) string {
	return func(k string) string {
		if k == "DOCKER_HOST" {
			return h
		}
		return ""
	}
}

// TestOpenFails checks that every way in which an engine is out of reach is
// told from the others, with its remedy.
func TestOpenFails(t *testing.T) {
	cases := map[string]struct {
		getenv func(string) string
		kind   services.Kind
		says   string
		remedy string
	}{
		"no engine":        {host("unix://" + filepath.Join(t.TempDir(), "no.sock")), services.Unavailable, "no Docker engine answers at", "--runtime embedded"},
		"another machine":  {host("tcp://10.1.2.3:2375"), services.Invalid, "is not on this machine", "unset DOCKER_HOST"},
		"another by ssh":   {host("ssh://me@far"), services.Invalid, "is not on this machine", "unset DOCKER_HOST"},
		"no address":       {host("nonsense"), services.Invalid, "DOCKER_HOST", ""},
		"too old":          {fake(t, "1.30", nil), services.Conflict, "1.30", "Docker 20.10"},
		"a wrong protocol": {host("unix:///"), services.Unavailable, "no Docker engine", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			e, err := images.Open(t.Context(), c.getenv)
			if err == nil {
				t.Fatal(errors.Join(errors.New("it opens"), e.Close()))
			}
			var known *services.Error
			if !errors.As(err, &known) || known.Kind != c.kind || !strings.Contains(err.Error(), c.says) || !strings.Contains(known.Remedy, c.remedy) {
				t.Errorf("%v, of kind %s", err, services.KindOf(err))
			}
			if known != nil && c.remedy != "" && known.Remedy == "" {
				t.Errorf("%v has no remedy", err)
			}
		})
	}
}

func TestEngineErrors(t *testing.T) {
	answer := map[string]string{
		"full":    `{"status":"Extracting"}` + "\n" + `{"errorDetail":{"message":"write /var/lib/docker/tmp/x: no space left on device"}}`,
		"offline": `{"errorDetail":{"message":"Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io: no such host"}}`,
		"whole":   `{"status":"Downloaded"}`,
	}
	getenv := fake(t, "1.41", func(w http.ResponseWriter, r *http.Request) {
		ref := r.URL.Query().Get("fromImage")
		name := ref[strings.LastIndex(ref, "/")+1:]
		if body, ok := answer[name]; ok {
			fmt.Fprint(w, body)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"message":"No such image"}`)
	})
	e, err := images.Open(t.Context(), getenv)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for name, want := range map[string]services.Kind{"full": services.Exhausted, "offline": services.Unavailable, "unknown": services.NotFound} {
		err := e.Pull(t.Context(), name+":1")
		if services.KindOf(err) != want {
			t.Errorf("pull of %s: %v, of kind %s", name, err, services.KindOf(err))
		}
	}
	if err := e.Pull(t.Context(), "whole:1"); err != nil {
		t.Error(err)
	}
	if _, err := e.Inspect(t.Context(), "gone:1"); services.KindOf(err) != services.NotFound {
		t.Errorf("inspect: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Pull(ctx, "whole:1"); services.KindOf(err) != services.Unavailable || !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled pull: %v", err)
	}
}
