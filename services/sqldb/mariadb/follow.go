package mariadb

import (
	"context"
	"database/sql"

	"github.com/flix-lab/flix/services"
)

// follow makes the own server a replica of the primary and sees that it is one.
func (k *Keeper) follow(ctx context.Context, s seen, lead promotion) error {
	if !s.own.readOnly {
		k.cfg.Tel.Log.Warn("another primary was promoted, this server becomes a replica", "primary", lead.region, "epoch", lead.epoch, "own_epoch", s.own.last().epoch)
		if err := k.close4writes(ctx); err != nil {
			return err
		}
	}
	if s.own.fenced {
		if err := k.setFenced(ctx, false); err != nil {
			return err
		}
	}
	host, port := k.cfg.Via(lead.region)
	if host == "" {
		return services.Errorf(services.Unavailable, "there is no way to the server of %s yet", lead.region)
	}
	src := s.own.source
	same := src.set && src.host == host && src.port == port
	switch {
	case s.own.local() > 0: // found before replication trips over it
	case same && src.receiving && src.applying:
		return nil
	case same && src.connecting && src.applying:
		return services.Errorf(services.Unavailable, "no connection to %s: %s", lead.region, src.text)
	}
	return k.point(ctx, lead.region, host, port, src)
}

// point makes the own server follow another, if that has all that it has. The
// other is asked after the own one: what it has by then it keeps.
func (k *Keeper) point(ctx context.Context, region, host string, port int, src source) error {
	own, err := look(ctx, k.read)
	if err != nil {
		return err
	}
	db := k.peer(region)
	if db == nil {
		return services.Errorf(services.Unavailable, "the address of the server of %s is not known", region)
	}
	there, err := look(ctx, db)
	if err != nil {
		return services.Wrap("server of "+region, err)
	}
	strays := own.strays(there)
	if strays == 0 && own.position() > 0 && src.failure == errBinlogFatal && src.host == host && src.port == port {
		// The primary itself says that the two histories do not match.
		strays = max(1, own.position()-min(own.position(), own.last().position))
	}
	if strays > 0 {
		return k.strayed(ctx, own, region, strays)
	}
	return k.start(ctx, own, region, host, port)
}

// strayed deals with a server whose history is not the primary's.
func (k *Keeper) strayed(ctx context.Context, own view, region string, strays uint64) error {
	if k.cfg.Rebuild {
		if err := k.rebuild(ctx, own, strays); err != nil {
			return err
		}
		k.refresh()
		return nil
	}
	if own.source.set {
		if err := do(ctx, k.own, `STOP SLAVE`); err != nil {
			return err
		}
	}
	k.mu.Lock()
	k.strays = strays
	k.mu.Unlock()
	return services.Errorf(services.Conflict, "the server of %s has %d transactions, up to %s, that the primary in %s has not: it does not follow, and answers reads from its own history",
		k.cfg.Region, strays, own.binlog, region).WithReason(ReasonDiverged).
		WithRemedy("save what is worth saving, then give the region a server with an empty data directory")
}

// start writes the replication settings and starts the threads. What the server
// ran as a primary counts as applied.
func (k *Keeper) start(ctx context.Context, own view, region, host string, port int) error {
	statements := []string{`STOP SLAVE`, `SET GLOBAL rpl_semi_sync_master_enabled = OFF`, `SET GLOBAL rpl_semi_sync_slave_enabled = ON`}
	if own.binlog.seq > own.applied.seq {
		statements = append(statements, `SET GLOBAL gtid_slave_pos = '`+own.binlog.String()+`'`)
	}
	if err := do(ctx, k.quiet, statements...); err != nil {
		return err
	}
	a := k.cfg.Accounts
	err := withConn(ctx, k.quiet, func(conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, `CHANGE MASTER TO MASTER_HOST = ?, MASTER_PORT = ?, MASTER_USER = ?, MASTER_PASSWORD = ?,
			MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1, MASTER_HEARTBEAT_PERIOD = 1`, host, int64(port), a.ReplicationUser, a.ReplicationPassword)
		if err != nil {
			return kinded(ctx, err)
		}
		_, err = conn.ExecContext(ctx, `START SLAVE`)
		return kinded(ctx, err)
	})
	if err != nil {
		return err
	}
	k.cfg.Tel.Log.Info("following", "primary", region, "host", host, "port", port, "position", own.position())
	return nil
}
