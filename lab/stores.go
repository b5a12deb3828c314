package lab

import (
	"context"
	"errors"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/lab/runtime/containers"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/kv/cassandra"
	kvembedded "github.com/flix-lab/flix/services/kv/embedded"
	"github.com/flix-lab/flix/services/search"
	searchembedded "github.com/flix-lab/flix/services/search/embedded"
	"github.com/flix-lab/flix/services/search/opensearch"
	"github.com/flix-lab/flix/services/sqldb"
	sqlembedded "github.com/flix-lab/flix/services/sqldb/embedded"
	"github.com/flix-lab/flix/services/sqldb/mariadb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/topology"
)

// The adapters of the stores. Which one a lab uses is decided here and nowhere
// else: where a real store serves a role, the client of its own protocol;
// otherwise gRPC to the embedded one.

// real says whether real stores serve the lab.
func real(w runtime.World) bool { return w.Runtime == containers.Name }

// kv returns a client of the region's wide-column store.
func (u *unit) kv() (kv.Store, error) {
	if !real(u.world.World) {
		c, err := u.rpc(topology.RoleKV)
		if err != nil {
			return nil, err
		}
		return kvembedded.NewClient(c), nil
	}
	c, err := cassandra.New(cassandra.Config{
		Hosts: u.registered(topology.RoleKV), Datacenter: u.spec.Region, Dial: u.dial(), Timing: u.timing(), Tel: u.tel,
	})
	if err != nil {
		return nil, err
	}
	u.closers = append(u.closers, c.Close)
	return c, nil
}

// registered returns the addresses of a role's instances as the region's
// registry shows them.
func (u *unit) registered(role topology.Role) func() []string {
	reg := u.local()
	return func() []string {
		var out []string
		for _, i := range reg.VIP(string(role)) {
			out = append(out, i.Addr(topology.PortRPC))
		}
		return out
	}
}

// sql returns a client of the relational store: reads from the region's own
// node, writes to the primary wherever it is.
func (u *unit) sql() (sqldb.DB, error) {
	if !real(u.world.World) {
		c, err := u.rpc(topology.RoleSQL)
		if err != nil {
			return nil, err
		}
		return sqlembedded.NewClient(c), nil
	}
	db, err := mariadb.NewClient(sqlConfig(u.w.sqlNodes, u.world.key, u.spec.Region, u.dial(), u.farTiming(), u.tel))
	if err != nil {
		return nil, err
	}
	u.closers = append(u.closers, db.Close)
	return db, nil
}

func sqlConfig(nodes func() map[string]string, key token.Key, region string, dial services.DialFunc, timing topology.Timing, tel *telemetry.Telemetry) mariadb.Config {
	a := containers.Accounts(key)
	return mariadb.Config{
		Local: localNode(nodes, region), Nodes: nodes,
		User: a.User, Password: a.Password, Database: a.Database, Dial: dial, Timing: timing, Tel: tel,
	}
}

// sqlNodes are the servers of all regions.
func (w *Wiring) sqlNodes() map[string]string {
	out := map[string]string{}
	for _, s := range w.world.Load().StoresOf(topology.RoleSQL) {
		out[s.Region] = s.Addr(topology.PortRPC)
	}
	return out
}

func localNode(nodes func() map[string]string, region string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		if a := nodes()[region]; a != "" {
			return a, nil
		}
		return "", services.Errorf(services.Unavailable, "region %s has no SQL server", region)
	}
}

// index returns a client of the region's search.
func (u *unit) index() (search.Index, error) {
	if !real(u.world.World) {
		c, err := u.rpc(topology.RoleSearch)
		if err != nil {
			return nil, err
		}
		return searchembedded.NewClient(c), nil
	}
	addresses := u.registered(topology.RoleSearch)
	c, err := opensearch.New(opensearch.Config{
		Endpoint: func(context.Context) (string, error) {
			if as := addresses(); len(as) > 0 {
				return "http://" + as[0], nil
			}
			return "", services.Errorf(services.Unavailable, "the registry of %s shows no search", u.spec.Region)
		},
		Dial: u.dial(), Tel: u.tel,
	})
	if err != nil {
		return nil, err
	}
	u.closers = append(u.closers, c.Close)
	return c, nil
}

// The daemon's own clients. They reach every instance directly: the daemon
// stands outside the WAN.

func (l *Lab) sql(region string) (sqldb.DB, error) {
	s, err := l.specOf(region, topology.RoleSQL)
	if err != nil {
		return nil, err
	}
	if !s.Sidecar {
		c, err := l.remote.conn(s.Addr(topology.PortRPC))
		if err != nil {
			return nil, err
		}
		return sqlembedded.NewClient(c), nil
	}
	l.mu.Lock()
	key := l.secret.key
	l.mu.Unlock()
	return kept(l.remote, "sql of "+region, func() (sqldb.DB, error) {
		return mariadb.NewClient(sqlConfig(l.sqlNodes, key, region, nil, l.current().Topology.Timing, l.remote.tel))
	})
}

// sqlNodes are the servers of all regions as they are now.
func (l *Lab) sqlNodes() map[string]string {
	out := map[string]string{}
	for _, r := range l.current().Topology.RegionNames() {
		if s, err := l.specOf(r, topology.RoleSQL); err == nil {
			out[r] = s.Addr(topology.PortRPC)
		}
	}
	return out
}

// sqlNode administers the SQL node of a region: the embedded one itself, or the
// keeper beside a real server.
func (l *Lab) sqlNode(region string) (sqldb.Node, error) {
	s, err := l.specOf(region, topology.RoleSQL)
	if err != nil {
		return nil, err
	}
	return l.sqlNodeAt(s)
}

func (l *Lab) sqlNodeAt(s runtime.Spec) (sqldb.Node, error) {
	port := topology.PortRPC
	if s.Sidecar {
		port = topology.PortReplication
	}
	c, err := l.remote.conn(s.Addr(port))
	if err != nil {
		return nil, err
	}
	return sqlembedded.NewNode(c), nil
}

func (l *Lab) searchIndex(region string) (search.Index, error) {
	s, err := l.specOf(region, topology.RoleSearch)
	if err != nil {
		return nil, err
	}
	if !s.Sidecar {
		c, err := l.remote.conn(s.Addr(topology.PortRPC))
		if err != nil {
			return nil, err
		}
		return searchembedded.NewClient(c), nil
	}
	url := "http://" + s.Addr(topology.PortRPC)
	return kept(l.remote, "search at "+url, func() (*opensearch.Client, error) {
		return opensearch.New(opensearch.Config{Endpoint: func(context.Context) (string, error) { return url, nil }, Tel: l.remote.tel})
	})
}

// migrate makes the schemas of the real stores, or has them span other regions
// than they did; doing so again changes nothing. The SQL tables are the
// keepers' work.
func (l *Lab) migrate(ctx context.Context, stores []runtime.Spec, had []string) error {
	var hosts []string
	factors := cassandra.Replication{}
	for _, s := range stores {
		if s.Role == topology.RoleKV {
			hosts = append(hosts, s.Addr(topology.PortRPC))
			factors[s.Region]++
		}
	}
	if len(hosts) == 0 {
		return nil
	}
	c := cassandra.Config{Hosts: func() []string { return hosts }, Datacenter: stores[0].Region, Timing: l.current().Topology.Timing, Tel: l.remote.tel}
	soon, cancel := context.WithTimeout(ctx, metTime)
	err := cassandra.Migrate(soon, c, factors)
	cancel()
	if err != nil && ctx.Err() == nil {
		if err := l.meetAgain(ctx, stores); err != nil {
			return err
		}
		err = cassandra.Migrate(ctx, c, factors)
	}
	if err != nil {
		return errors.Join(services.Errorf(services.Unavailable, "the kv's table could not be made"), err)
	}
	if len(had) == 0 {
		return nil
	}
	if err := cassandra.AlterReplication(ctx, c, factors); err != nil {
		return err
	}
	return l.joined(ctx, stores, had)
}
