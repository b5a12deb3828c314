package lab

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/flix-lab/flix/oca"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/lookup"
	"github.com/flix-lab/flix/topology"
)

func buildOCA(u *unit) (services.Unit, error) {
	speaker, router, err := u.sessions()
	if err != nil {
		return nil, err
	}
	listen := ""
	if speaker != nil {
		listen = u.spec.Addr(topology.PortBGP)
	}
	s, err := oca.New(oca.Deps{
		Client: u.ls.TCP[topology.PortClient], TLS: u.tlsConfig("appliances of "+u.spec.Site.Name, "http/1.1"), Fill: u.ls.TCP[topology.PortFill],
		Dir: u.spec.Dir, ID: services.ApplianceID(u.spec.ID), Site: *u.spec.Site, Region: u.spec.Region, Appliance: *u.spec.Appliance,
		ClientURL: "https://" + hostPort(applianceHost(u.spec.Instance), u.spec.PortNumbers[topology.PortClient]),
		FillURL:   "http://" + u.spec.Addr(topology.PortFill),
		Plain:     u.ls.TCP[topology.PortPlain],
		PlainURL:  "http://" + hostPort(plainHost(u.spec.Instance), u.spec.PortNumbers[topology.PortPlain]),
		Control:   u.nearestCacheControl(), Dial: u.dial(), Key: u.world.key, Tel: u.tel, Timing: u.timing(), TrustedProxies: u.world.Peers,
		Clock: u.clock, Disk: u.disk, BGP: speaker, BGPAddr: listen,
	})
	if err != nil || router == nil {
		return s, err
	}
	return &routed{Server: s, router: router}, nil
}

// nearestCacheControl picks the cache control an appliance reports to: its own
// region's, and another's only when that has been out of reach for as long as
// a report is fresh, lest a slow start sends everybody across the ocean.
func (u *unit) nearestCacheControl() func(context.Context) (cachecontrolpb.CacheControlClient, string, error) {
	conns := newLazy(func(region string) (*grpc.ClientConn, error) {
		return u.w.lookup(u.spec.Region, region).Dial(string(topology.RoleCacheControl), topology.PortRPC, u.dialOptions(string(topology.RoleCacheControl))...)
	})
	u.closers = append(u.closers, conns.close)
	var (
		mu    sync.Mutex
		since = time.Now() // when the own region was last in reach
	)
	patience := u.timing().ReportExpiry.D()
	return func(context.Context) (cachecontrolpb.CacheControlClient, string, error) {
		mu.Lock()
		defer mu.Unlock()
		for n, region := range u.w.topology().Nearest(u.spec.Region) {
			reg := u.w.lookup(u.spec.Region, region)
			if !reachable(reg, patience) {
				if n == 0 && time.Since(since) < patience {
					break
				}
				continue
			}
			if n == 0 {
				since = time.Now()
			}
			c, err := conns.get(region)
			if err != nil {
				return nil, "", err
			}
			return cachecontrolpb.NewCacheControlClient(c), region, nil
		}
		return nil, "", services.Errorf(services.Unavailable, "no region's cache control is in reach of %s", u.spec.ID)
	}
}

// reachable says whether a region's registry answered lately and shows a cache
// control.
func reachable(reg *lookup.Client, patience time.Duration) bool {
	return reg.Fetched() && reg.Age() < patience && len(reg.VIP(string(topology.RoleCacheControl))) > 0
}
