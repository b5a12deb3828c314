package mariadb

import (
	"context"
	"database/sql"
	"errors"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// Config is what a client needs.
type Config struct {
	// Local returns the address, host:port, of the own region's server, which
	// answers the reads. It is asked for each new connection.
	Local func(context.Context) (string, error)
	// Nodes lists all regions' servers, region → address, as seen from here.
	// It is asked again and again and must be cheap.
	Nodes func() map[string]string
	// User, Password and Database of the lab. The account needs no privilege
	// outside the database; it must not have READ ONLY ADMIN or SUPER, which
	// would let it write to a replica.
	User, Password, Database string
	// Dial connects to a server over the emulated WAN; nil for a plain dialer.
	Dial services.DialFunc
	// Timing gives the intervals: RPCTimeout for the making of a connection, and
	// twice that for a write to wait for a primary; RegistryFetch is how long a
	// primary that answers is believed to be the newest; BreakerSleep is the
	// longest pause between two tries.
	Timing topology.Timing
	// Tel are the instance's instruments. Clients of one instance share its
	// counters.
	Tel *telemetry.Telemetry
}

// NewClient makes a client. It opens no connection: calls do, and wait for a
// server within their contexts. It fails with services.Invalid when Local,
// Nodes, Tel, User or Database is missing. The error kinds are the port's;
// besides, a server without room for another connection fails with
// services.Exhausted and a refused account with services.Denied.
func NewClient(c Config) (sqldb.DB, error) {
	w, err := newWriter(c)
	if err != nil {
		return nil, err
	}
	local := c.target()
	local.addr = c.Local
	// The region's server may be the primary: a query is to change nothing there.
	local.settings = map[string]string{"tx_read_only": "1"}
	db, err := local.open()
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return sqldb.New(&reader{db: db}, w), nil
}

func (c Config) target() target {
	return target{dial: c.Dial, user: c.User, password: c.Password, database: c.Database, timeout: c.Timing.RPCTimeout.D(), log: c.Tel.Log}
}

// reader is a sqldb.Conn to the own region's server.
type reader struct{ db *sql.DB }

var _ sqldb.Conn = (*reader)(nil)

// Run implements sqldb.Conn. A server that has gone away since the last query
// is dialled once more.
func (r *reader) Run(ctx context.Context, tx sqldb.Tx) ([]sqldb.Result, error) {
	b, err := newBatch(tx)
	if err != nil {
		return nil, err
	}
	out, err := b.run(ctx, r.db)
	if reason := services.ReasonOf(err); (reason == ReasonUnreachable || reason == ReasonUnknown) && ctx.Err() == nil {
		out, err = b.run(ctx, r.db)
	}
	return out, services.Wrap("the region's SQL server", err)
}

// Close implements sqldb.Conn.
func (r *reader) Close() error { return r.db.Close() }
