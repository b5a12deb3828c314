package lab

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/runtime/containers"
	"github.com/flix-lab/flix/lab/wan"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/evcache"
	"github.com/flix-lab/flix/services/events"
	"github.com/flix-lab/flix/services/kv/cassandra"
	"github.com/flix-lab/flix/services/objects"
	"github.com/flix-lab/flix/services/sidecar"
	"github.com/flix-lab/flix/services/sqldb/mariadb"
	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/topology"
)

// sidecars are the units that stand beside real stores: they put a store into
// the registry while it answers, and show what the lab asks of its role.
var sidecars = map[topology.Role]builder{
	topology.RoleKafka:   sidecarKafka,
	topology.RoleKV:      sidecarKV,
	topology.RoleSQL:     sidecarSQL,
	topology.RoleSearch:  sidecarSearch,
	topology.RoleS3:      sidecarS3,
	topology.RoleEVCache: sidecarEVCache,
}

// store is where the store itself listens, whatever stands before it.
func (u *unit) store(port int) string {
	return net.JoinHostPort(u.spec.Address, strconv.Itoa(port))
}

// beside runs a sidecar's parts until one fails or ctx ends.
type beside []func(context.Context) error

// Serve implements services.Unit.
func (b beside) Serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, f := range b {
		g.Go(func() error { return f(ctx) })
	}
	return g.Wait()
}

// watch probes a store and announces it.
func (u *unit) watch(name string, probe func(context.Context) error) (func(context.Context) error, error) {
	w, err := sidecar.New(sidecar.Config{Store: name, Probe: probe, Changed: u.announce, Tel: u.tel})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { w.Run(ctx); return nil }, nil
}

func sidecarKafka(u *unit) (services.Unit, error) {
	return events.NewSidecar(events.SidecarConfig{
		Target: u.spec.Addr(topology.PortRPC), Retention: u.timing().KafkaRetention.D(), OnHealth: u.announce, Tel: u.tel,
	})
}

func sidecarEVCache(u *unit) (services.Unit, error) {
	s, err := evcache.NewSidecar(evcache.SidecarConfig{Target: u.spec.Addr(topology.PortRPC), OnHealth: u.announce, Tel: u.tel})
	return cacheKeeper{s, u}, err
}

func sidecarS3(u *unit) (services.Unit, error) {
	return objects.NewSidecar(objects.SidecarConfig{
		Target: u.store(objects.StorePort), Listener: u.ls.TCP[topology.PortHTTP], Dir: u.spec.Dir,
		AccessKey: containers.AccessKey, SecretKey: u.world.key.Secret(token.S3), OnHealth: u.announce, Tel: u.tel,
	})
}

// sidecarKV watches a Cassandra node and is its door to the other regions:
// what they send to it passes here, delayed as the WAN between them and this
// region says.
func sidecarKV(u *unit) (services.Unit, error) {
	addr := u.spec.Addr(topology.PortRPC)
	watch, err := u.watch("cassandra", func(ctx context.Context) error { return cassandra.Ping(ctx, addr, nil) })
	if err != nil {
		return nil, err
	}
	l, ok := u.ls.TCP[topology.PortReplication]
	if !ok { // the machine's own network: see containers.Runtime.Place
		return beside{watch}, nil
	}
	door := wan.Proxy{
		Listener: l, Target: u.store(u.spec.PortNumbers[topology.PortReplication]),
		From: u.regionOf, Dial: u.w.wan.Dialer, Log: u.tel.Log,
	}
	return beside{watch, door.Run}, nil
}

// regionOf is the region a connection comes from. On the machine's own network
// every source is the same, and only the region's own server uses its ways out.
func (u *unit) regionOf(a netip.Addr) (string, bool) {
	w := u.w.world.Load()
	if r, ok := w.RegionOfAddress(a); ok || w.Client != "" {
		return r, ok
	}
	return u.spec.Region, a.IsLoopback()
}

func sidecarSearch(u *unit) (services.Unit, error) {
	url := "http://" + u.spec.Addr(topology.PortRPC) + "/_cluster/health?wait_for_status=yellow&timeout=1s"
	client := &http.Client{}
	watch, err := u.watch("opensearch", func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", url, resp.Status)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	u.closers = append(u.closers, func() error { client.CloseIdleConnections(); return nil })
	return beside{watch}, nil
}

// greeted waits for the greeting with which a MariaDB server begins every
// connection: protocol version 10, after a header of four bytes. A server that
// still makes its data directory does not listen.
func greeted(ctx context.Context, addr string) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if d, ok := ctx.Deadline(); ok {
		if err := c.SetReadDeadline(d); err != nil {
			return err
		}
	}
	head := make([]byte, 5)
	if _, err := io.ReadFull(c, head); err != nil {
		return err
	}
	if head[4] != 10 {
		return fmt.Errorf("%s greets with %d: it has no room for a connection, or is no MariaDB", addr, head[4])
	}
	return nil
}

// ownSQL is the address of the server beside the unit. A region that is leaving
// is in nobody's world any more, and is still asked to hand over.
func (u *unit) ownSQL(context.Context) (string, error) {
	return cmp.Or(u.w.sqlNodes()[u.spec.Region], u.spec.Addr(topology.PortRPC)), nil
}

// sidecarSQL keeps a MariaDB server: its part in the replication, and the
// replication's way over the WAN, which begins here.
func sidecarSQL(u *unit) (services.Unit, error) {
	via := &vias{u: u, ports: map[string]int{}}
	keeper, err := mariadb.NewKeeper(mariadb.KeeperConfig{
		Region: u.spec.Region, Primary: u.spec.Primary, Local: u.ownSQL,
		Nodes: u.w.sqlNodes, Via: via.of,
		Accounts: containers.Accounts(u.world.key), Rebuild: true, RPC: u.ls.TCP[topology.PortReplication],
		Dial: u.dial(), Timing: u.farTiming(), Tel: u.tel,
	})
	if err != nil {
		return nil, err
	}
	addr := u.spec.Addr(topology.PortRPC)
	watch, err := u.watch("mariadb", func(ctx context.Context) error { return greeted(ctx, addr) })
	if err != nil {
		return nil, err
	}
	return beside{watch, keeper.Serve, via.run}, nil
}
