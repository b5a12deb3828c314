package mariadb

import (
	"context"
	"database/sql"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb"
)

// tableOptions make text compare as in SQLite; see the package's comment.
const tableOptions = " ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"

// Migrate makes the tables of sqldb.Schema on the primary, from where they
// replicate; running it again changes nothing. The first primary's Keeper has
// done so already: it is for servers without Keepers, and for a schema that has
// grown. It waits for a primary as a write does.
func Migrate(ctx context.Context, c Config) error {
	w, err := newWriter(c)
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }() // nothing is open that could be lost
	return services.Wrap("sqldb migrate", w.settle(ctx, func(db *sql.DB) error { return migrate(ctx, db, c.Database) }))
}

func migrate(ctx context.Context, db *sql.DB, database string) error {
	statements := []string{"USE " + ident(database)}
	for _, q := range sqldb.Schema() {
		statements = append(statements, q+tableOptions)
	}
	return do(ctx, db, statements...)
}
