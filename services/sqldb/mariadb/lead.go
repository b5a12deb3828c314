package mariadb

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/flix-lab/flix/services"
)

// lead sees that the own server, which the newest promotion names, takes
// writes, unless it is fenced.
func (k *Keeper) lead(ctx context.Context, s seen) error {
	own := s.own
	if own.last() != s.leader() {
		if !own.readOnly {
			if err := k.close4writes(ctx); err != nil {
				return err
			}
		}
		return services.Errorf(services.Conflict, "the server of %s was primary and has lost its data directory", k.cfg.Region).
			WithRemedy("promote another region: this server then follows it")
	}
	switch {
	case own.fenced && !own.readOnly:
		return k.close4writes(ctx)
	case own.fenced:
		return nil
	case !own.readOnly && own.source.set:
		return do(ctx, k.own, `STOP SLAVE`, `RESET SLAVE ALL`)
	case !own.readOnly:
		return nil
	}
	// It has just started. A replica with more than it has tells that its disk
	// has lost something: writing on would part the two histories.
	for region, v := range s.peers {
		if n := v.strays(own); n > 0 && v.last() == own.last() {
			return services.Errorf(services.Conflict, "the server of %s has lost %d transactions, which %s has", k.cfg.Region, n, region).
				WithReason(ReasonDiverged).WithRemedy("promote %s: this server then follows it", region)
		}
	}
	return k.open(ctx)
}

// found makes the own server the first primary.
func (k *Keeper) found(ctx context.Context) error {
	if err := k.begin(ctx, 1); err != nil {
		return err
	}
	return k.open(ctx)
}

// begin writes the promotion, as the first transaction of its epoch. The server
// is read-only to everybody else until open.
func (k *Keeper) begin(ctx context.Context, epoch uint64) error {
	own, err := look(ctx, k.read)
	if err != nil {
		return err
	}
	if len(own.promotions) == 0 {
		if err := do(ctx, k.own, promotionsSchema); err != nil {
			return err
		}
		if own, err = look(ctx, k.read); err != nil {
			return err
		}
	}
	return withConn(ctx, k.own, func(conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, "INSERT INTO "+promotions+" (epoch, region, position, server, at_us) VALUES (?, ?, ?, @@global.server_id, ?)",
			int64(epoch), k.cfg.Region, int64(own.position()), time.Now().UnixMicro())
		return kinded(ctx, err)
	})
}

// open makes the primary take writes, with its tables, and once a replica is
// there to confirm them, if one is in reach.
func (k *Keeper) open(ctx context.Context) error {
	if err := do(ctx, k.own, `STOP SLAVE`, `RESET SLAVE ALL`,
		`SET GLOBAL rpl_semi_sync_slave_enabled = OFF`, `SET GLOBAL rpl_semi_sync_master_enabled = ON`); err != nil {
		return err
	}
	tables, err := k.tables(ctx)
	if err != nil {
		return err
	}
	if len(tables) == 0 {
		if err := migrate(ctx, k.own, k.cfg.Accounts.Database); err != nil {
			return err
		}
	}
	if !k.replicaThere(ctx) {
		k.cfg.Tel.Log.Warn("no replica is connected: the primary begins alone")
	}
	if err := do(ctx, k.own, `SET GLOBAL read_only = OFF`); err != nil {
		return err
	}
	k.cfg.Tel.Log.Info("primary", "region", k.cfg.Region)
	return nil
}

// replicaThere waits until a replica is connected that confirms. It says no at
// once when no other server answers, and when none has come within the time in
// which their Keepers must have noticed.
func (k *Keeper) replicaThere(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*(k.interval()+k.cfg.Timing.RPCTimeout.D()))
	defer cancel()
	tick := time.NewTicker(firstBackoff)
	defer tick.Stop()
	for {
		s := k.look(ctx, k.grace())
		if s.own.semiSync.replicas > 0 {
			return true
		}
		if len(s.peers) == 0 {
			return false
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// close4writes makes the own server read-only. MariaDB waits for the commits
// under way, and fails the transactions that have not come so far.
func (k *Keeper) close4writes(ctx context.Context) error {
	return do(ctx, k.own, closeWait(), `SET GLOBAL read_only = ON`)
}

// closeWait bounds how long that may take: a commit waits for a replica, and may
// have waited for a lock before.
func closeWait() string {
	return fmt.Sprintf(`SET SESSION lock_wait_timeout = %d`, int((semiSyncWait+lockWait)/time.Second))
}

func (k *Keeper) setFenced(ctx context.Context, fenced bool) error {
	n := 0
	if fenced {
		n = 1
	}
	return do(ctx, k.quiet, fmt.Sprintf("UPDATE %s SET fenced = %d", nodeTable, n))
}
