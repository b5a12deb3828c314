package containers

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/lab/runtime/host"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/token"
)

// ServeVerb is the verb of the command line that runs instances in a
// container.
const ServeVerb = "serve"

// Serve runs the instances that the folder dir names, in the world it holds,
// and answers the lab's daemon at the address control, until ctx ends. The
// daemon keeps the folder up to date, so that a container that is restarted
// goes on by itself.
func Serve(ctx context.Context, name, dir, control string, f host.Factory, log *slog.Logger) error {
	key, err := readKey(dir)
	if err != nil {
		return err
	}
	h := host.New(name, f, log)
	if err := h.Load(ctx, filepath.Join(dir, worldFile), filepath.Join(dir, specsFile(name))); err != nil {
		return err
	}
	l, err := net.Listen("tcp", control)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return h.Serve(ctx, l, func(next http.Handler) http.Handler { return allowed(key, next) })
}

// readKey takes what the daemon must show from the world in the folder.
func readKey(dir string) (string, error) {
	path := filepath.Join(dir, worldFile)
	var w runtime.World
	err := host.ReadFile(path, &w)
	if errors.Is(err, fs.ErrNotExist) {
		return "", &services.Error{Op: "serve", Kind: services.Invalid, Msg: "there is no world in " + dir, Err: err,
			Remedy: "flix serve is started by the containers runtime, which puts one there: flix lab up --runtime containers"}
	}
	if err != nil {
		return "", err
	}
	k, err := token.NewKey(w.ID, w.Key)
	if err != nil {
		return "", errors.Join(services.Errorf(services.Invalid, "%s holds no lab's key", path), err)
	}
	return k.Secret(token.AdminKey), nil
}

// allowed lets only those through that know the lab's key.
func allowed(key string, next http.Handler) http.Handler {
	want := []byte("Bearer " + key)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), want) != 1 {
			http.Error(w, "not this lab's daemon", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
