package lab

import (
	"context"
	"errors"
	"net"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/wan"
	"github.com/flix-lab/flix/services"
)

// vias are the ways on which a region's SQL server reaches the others: a
// listener beside it for each region, behind which the WAN lies. They are
// opened when first asked for.
type vias struct {
	u *unit

	mu    sync.Mutex
	ctx   context.Context // of the run; nil before
	group *errgroup.Group
	ports map[string]int
}

// of returns where the own server reaches a region's; "" while the sidecar is
// not up.
func (v *vias) of(region string) (host string, port int) {
	host = v.u.spec.Where("admin")
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ctx == nil || v.ctx.Err() != nil {
		return "", 0
	}
	if p, ok := v.ports[region]; ok {
		return host, p
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		v.u.tel.Log.Error("the way to another region's SQL server", "region", region, "error", err)
		return "", 0
	}
	own := v.u.spec.Region
	proxy := wan.Proxy{
		Listener: l, From: v.u.regionOf, Log: v.u.tel.Log,
		Dial: func(string) services.DialFunc {
			return func(ctx context.Context, network, _ string) (net.Conn, error) {
				target := v.u.w.sqlNodes()[region]
				if target == "" {
					return nil, errors.New("region " + region + " has no SQL server")
				}
				return v.u.w.wan.Dialer(own)(ctx, network, target)
			}
		},
	}
	ctx := v.ctx
	v.group.Go(func() error { return proxy.Run(ctx) })
	v.ports[region] = l.Addr().(*net.TCPAddr).Port
	return host, v.ports[region]
}

// run keeps the ways open until ctx ends.
func (v *vias) run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	v.mu.Lock()
	v.ctx, v.group = gctx, g
	v.mu.Unlock()
	g.Go(func() error { <-gctx.Done(); return nil })
	return g.Wait()
}
