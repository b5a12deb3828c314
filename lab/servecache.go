package lab

import (
	"context"
	"errors"
	"net"
	"net/http"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/evcache"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// CacheOptions say how a cache server runs on its own, outside any lab.
type CacheOptions struct {
	// Listen is the address of memcached's protocols, Admin that of metrics ("" for none).
	Listen, Admin string
	// MemoryMiB bounds the items with their keys and overhead, in MiB.
	MemoryMiB int64
	// Ready is told the address it listens on, and the admin's or "".
	Ready func(addr, admin string)
}

// RunCache runs a cache server until ctx ends. It logs warnings and worse as
// JSON lines to the standard error, more by FLIX_LOG_LEVEL.
func RunCache(ctx context.Context, env Env, o CacheOptions) error {
	if o.MemoryMiB < 1 || o.MemoryMiB > maxCacheMiB {
		return services.Errorf(services.Invalid, "--memory: %d is not from 1 to %d MiB", o.MemoryMiB, maxCacheMiB)
	}
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return listenError("--listen", o.Listen, err)
	}
	tel := telemetry.New(telemetry.Config{
		Instance: "evcache/" + l.Addr().String(), Role: string(topology.RoleEVCache),
		Log: standaloneLog(env),
	})
	s, err := evcache.NewServer(evcache.ServerConfig{Listener: l, MaxBytes: o.MemoryMiB << 20, Tel: tel})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	g, ctx := errgroup.WithContext(ctx)
	admin, err := serveAdminOf(ctx, g, env, o.Admin, tel, func(*http.ServeMux, string) {})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	g.Go(func() error { return s.Serve(ctx) })
	if o.Ready != nil {
		o.Ready(l.Addr().String(), admin)
	}
	releaseStart(env)
	return g.Wait()
}

// maxCacheMiB is above what one process of a lab should ever hold: 1 TiB.
const maxCacheMiB = 1 << 20
