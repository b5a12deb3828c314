package mariadb

import (
	"context"
	"database/sql"

	"github.com/flix-lab/flix/services/sqldb"
)

// tableOptions make text compare as in SQLite; see the package's comment.
const tableOptions = " ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"

// migrate makes the tables of sqldb.Schema on the primary, from where they
// replicate; running it again changes nothing.
func migrate(ctx context.Context, db *sql.DB, database string) error {
	statements := []string{"USE " + ident(database)}
	for _, q := range sqldb.Schema() {
		statements = append(statements, q+tableOptions)
	}
	return do(ctx, db, statements...)
}
