package mariadb

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/flix-lab/flix/services"
)

func ident(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// join prepares a server whose data directory is new. Each server has made its
// accounts by itself and written that into its log, which is cleared: history
// begins with the first primary, and is the same everywhere.
func (k *Keeper) join(ctx context.Context) error {
	tables, err := k.tables(ctx)
	if err != nil {
		return err
	}
	if len(tables) > 0 {
		return services.Errorf(services.Conflict, "the server has tables, among them %s, and is not one of the lab's", tables[0]).
			WithRemedy("give the region a server with an empty data directory")
	}
	statements := append(keeperSchema(), k.grants()...)
	statements = append(statements, blank()...)
	// The mark comes last: a Keeper that is stopped before does it all again.
	statements = append(statements, `REPLACE INTO `+nodeTable+` VALUES (1, 0, 0)`)
	if err := do(ctx, k.quiet, statements...); err != nil {
		return err
	}
	k.cfg.Tel.Log.Info("joined", "region", k.cfg.Region)
	return nil
}

// grants let the lab's services ask who is primary, and no more.
func (k *Keeper) grants() []string {
	return []string{"GRANT SELECT ON " + ident(strings.ReplaceAll(keeperDB, "_", `\_`)) + ".* TO " + ident(k.cfg.Accounts.User) + "@'%'"}
}

// blank makes a server forget all history.
func blank() []string {
	return []string{`STOP SLAVE`, `RESET SLAVE ALL`, `RESET MASTER`, `SET GLOBAL gtid_slave_pos = ''`}
}

// tables lists the lab's tables on the own server.
func (k *Keeper) tables(ctx context.Context) ([]string, error) {
	var out []string
	err := withConn(ctx, k.own, func(conn *sql.Conn) error {
		sets, err := query(ctx, conn, "SELECT table_name FROM information_schema.tables WHERE table_schema = ?", []any{k.cfg.Accounts.Database})
		if err != nil {
			return err
		}
		for _, r := range sets[0].Rows {
			row, err := asTexts(r)
			if err != nil {
				return err
			}
			out = append(out, row[0])
		}
		return nil
	})
	return out, err
}

// rebuild sets a diverged server's tables aside and makes it forget its
// history, so that it plays the primary's from the start. Readers miss the
// tables until then. When it is cut short the next look finds the server
// diverged, or new, and goes on.
func (k *Keeper) rebuild(ctx context.Context, own view, strays uint64) error {
	tables, err := k.tables(ctx)
	if err != nil {
		return err
	}
	aside := fmt.Sprintf("flix_diverged_%d_%d", own.last().epoch, time.Now().UnixMicro())
	statements := []string{`STOP SLAVE`, `CREATE DATABASE ` + aside + ` CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin`}
	for _, t := range tables {
		statements = append(statements, fmt.Sprintf("RENAME TABLE %s.%s TO %s.%s", ident(k.cfg.Accounts.Database), ident(t), aside, ident(t)))
	}
	if len(own.promotions) > 0 {
		statements = append(statements, fmt.Sprintf("RENAME TABLE %s TO %s.promotions", promotions, aside))
	}
	statements = append(statements, blank()...)
	statements = append(statements, fmt.Sprintf("UPDATE %s SET fenced = 0, diverged = diverged + %d", nodeTable, strays))
	if err := do(ctx, k.quiet, statements...); err != nil {
		return err
	}
	k.cfg.Tel.Log.Warn("set a diverged history aside", "database", aside, "transactions", strays)
	return nil
}
