package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/rpc"
	"github.com/flix-lab/flix/services/sqldb/sqldbpb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// KeeperConfig is what a Keeper needs.
type KeeperConfig struct {
	// Region whose server it keeps.
	Region string
	// Primary makes the server the lab's first primary, if no server has a
	// history yet. Exactly one region is to have it.
	Primary bool
	// Local returns the own server's address, host:port, as seen from here.
	Local func(context.Context) (string, error)
	// Nodes lists all regions' servers as seen from here, region → address. It
	// may include Region. It is asked again and again and must be cheap.
	Nodes func() map[string]string
	// Via returns where the own server reaches a region's server: the host and
	// port that are written into its replication settings, such as those of the
	// WAN's proxy. "" says that it is not known yet.
	Via func(region string) (host string, port int)
	// Accounts are those that the servers were made with.
	Accounts Accounts
	// Rebuild lets the Keeper bring back a server that has transactions which
	// the primary has not: it sets its tables aside, in a database of their own
	// named flix_diverged_…, and has the server play the primary's log from the
	// start. Without it such a server stays out, readable and read-only, until
	// its data directory is made anew.
	Rebuild bool
	// RPC serves sqldbpb.SQL: State, Fence and Promote. It is bound already.
	RPC net.Listener
	// Dial connects to the servers over the emulated WAN; nil for a plain dialer.
	Dial services.DialFunc
	// Timing gives the intervals: RegistryFetch, between a quarter of which the
	// Keeper looks at the servers, and RPCTimeout for one look.
	Timing topology.Timing
	// Tel are the instance's instruments.
	Tel *telemetry.Telemetry
}

// Keeper stands beside one region's server. Use NewKeeper, then Serve it once.
type Keeper struct {
	sqldbpb.UnimplementedSQLServer

	cfg KeeperConfig
	rpc *rpc.Server
	// own reaches the own server; quiet does too and leaves no trace in its
	// binary log. read only looks, so that one is never kept waiting for those.
	own, quiet, read *sql.DB
	wake             chan struct{}
	// turn is held by whoever changes the server's part; a channel, so that
	// waiting for it ends with a context.
	turn chan struct{}

	mu      sync.Mutex
	peers   map[string]*peer
	seen    seen
	trouble string
	// strays keep the server out; 0 when it is not kept out.
	strays uint64
}

var _ services.Unit = (*Keeper)(nil)

// NewKeeper makes a Keeper; it needs no server to be up. On an error the
// listener stays the caller's.
func NewKeeper(c KeeperConfig) (*Keeper, error) {
	if c.Region == "" || c.Local == nil || c.Nodes == nil || c.Via == nil || c.RPC == nil || c.Tel == nil {
		return nil, services.Errorf(services.Invalid, "mariadb.NewKeeper: Region, Local, Nodes, Via, RPC and Tel are needed")
	}
	if a := c.Accounts; a.Database == "" || a.User == "" || a.ReplicationUser == "" {
		return nil, services.Errorf(services.Invalid, "mariadb.NewKeeper: the accounts need Database, User and ReplicationUser")
	}
	k := &Keeper{cfg: c, wake: make(chan struct{}, 1), turn: make(chan struct{}, 1), peers: map[string]*peer{}}
	t := k.target(c.Local)
	var err, qerr, rerr error
	k.own, err = t.open()
	k.read, rerr = t.open()
	t.settings = map[string]string{"sql_log_bin": "0"}
	k.quiet, qerr = t.open()
	if err := errors.Join(err, qerr, rerr); err != nil {
		return nil, err
	}
	k.rpc = rpc.New("sqldb", c.Tel)
	sqldbpb.RegisterSQLServer(k.rpc, k)
	c.Tel.Metrics.MustRegister(newKeeperCollector(k))
	return k, nil
}

// target is a server as the Keeper uses it: as root, in no database.
func (k *Keeper) target(addr func(context.Context) (string, error)) target {
	return target{addr: addr, dial: k.cfg.Dial, user: "root", password: k.cfg.Accounts.RootPassword, timeout: k.cfg.Timing.RPCTimeout.D(), log: k.cfg.Tel.Log}
}

// Serve implements services.Unit. The server lives on when the Keeper ends.
func (k *Keeper) Serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return k.rpc.Serve(ctx, 0, k.cfg.RPC) })
	g.Go(func() error { k.watch(ctx); return nil })
	return errors.Join(g.Wait(), k.close())
}

func (k *Keeper) close() error {
	errs := []error{k.own.Close(), k.quiet.Close(), k.read.Close()}
	for _, p := range k.peers { // nobody else is left
		errs = append(errs, p.close())
	}
	return errors.Join(errs...)
}

// lookFactor is how many looks there are in the interval of registry fetches:
// after a promotion a replica follows the new primary that much later.
const lookFactor = 4

func (k *Keeper) interval() time.Duration {
	return max(k.cfg.Timing.RegistryFetch.D()/lookFactor, firstBackoff)
}

// watch plays the server's part until ctx ends, at first looking often.
func (k *Keeper) watch(ctx context.Context) {
	pause := firstBackoff
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-timer.C:
		}
		k.tell(k.inTurn(ctx, k.step))
		pause = min(2*pause, k.interval())
		timer.Reset(pause)
	}
}

// refresh makes watch look now.
func (k *Keeper) refresh() {
	select {
	case k.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// tell logs what keeps the server from its part, once for each thing in a row.
func (k *Keeper) tell(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	k.mu.Lock()
	was := k.trouble
	k.trouble = text
	if services.ReasonOf(err) != ReasonDiverged {
		k.strays = 0
	}
	k.mu.Unlock()
	switch {
	case text == was:
	case text == "":
		k.cfg.Tel.Log.Info("the server plays its part")
	case services.ReasonOf(err) == ReasonDiverged:
		k.cfg.Tel.Log.Error("the server is kept out", "err", err)
	default:
		k.cfg.Tel.Log.Info("the server does not play its part yet", "err", err)
	}
}

func (k *Keeper) inTurn(ctx context.Context, f func(context.Context) error) error {
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return services.Wrap("wait for the server's Keeper", ctx.Err())
	}
	return f(ctx)
}

// step looks at the servers and gives the own one its part.
func (k *Keeper) step(ctx context.Context) error {
	s := k.look(ctx, k.grace())
	if !s.ok {
		return k.silent()
	}
	if !s.own.joined {
		if err := k.join(ctx); err != nil {
			return services.Wrap("join", err)
		}
		s = k.look(ctx, k.grace())
	}
	if k.opens(s) {
		// Whoever answers at all is heard before the server takes writes: another
		// may have been promoted while it was away.
		s = k.look(ctx, k.cfg.Timing.RPCTimeout.D())
	}
	switch lead := s.leader(); {
	case lead.epoch == 0 && k.cfg.Primary:
		return services.Wrap("first primary", k.found(ctx))
	case lead.epoch == 0:
		return services.Errorf(services.Unavailable, "no server has been primary yet")
	case lead.region == k.cfg.Region:
		return services.Wrap("primary", k.lead(ctx, s))
	default:
		return services.Wrap("replica of "+lead.region, k.follow(ctx, s, lead))
	}
}

// opens says whether the next step makes the own server take writes.
func (k *Keeper) opens(s seen) bool {
	lead := s.leader()
	return s.own.readOnly && !s.own.fenced && (lead.region == k.cfg.Region || (lead.epoch == 0 && k.cfg.Primary))
}

// do runs statements one after another on a connection of a pool.
func do(ctx context.Context, db *sql.DB, statements ...string) error {
	return withConn(ctx, db, func(conn *sql.Conn) error {
		for _, q := range statements {
			if _, err := conn.ExecContext(ctx, q); err != nil {
				return services.Wrap(q, kinded(ctx, err))
			}
		}
		return nil
	})
}
