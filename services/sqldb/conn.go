package sqldb

import "context"

// Statement is one SQL statement with ? placeholders. Arguments are string,
// int64, float64, []byte or nil.
type Statement struct {
	SQL  string
	Args []any
	// Query says that the statement returns rows and changes none.
	Query bool
	// MustChange fails the transaction with services.Conflict if the statement
	// changes no row.
	MustChange bool
}

// Result is what one statement answered; values are of the types of a
// statement's arguments.
type Result struct {
	Columns []string
	Rows    [][]any
	// Changed is the number of rows that a statement changed.
	Changed int64
}

// Tx is what runs as one transaction: all or nothing, in order.
type Tx struct {
	Statements []Statement
	// Confirm asks that the transaction is not acknowledged before a replica
	// has it too, if one is connected (semi-synchronous replication).
	Confirm bool
}

// Conn runs transactions on one database. It is what an adapter implements;
// the statements of New work on SQLite and on MariaDB. A row that breaks a
// unique key fails with services.Conflict. Safe for concurrent use.
type Conn interface {
	// Run executes a transaction and returns a result per statement.
	Run(ctx context.Context, tx Tx) ([]Result, error)
	// Close releases the connection.
	Close() error
}

// query is a statement that reads.
func query(sql string, args ...any) Statement { return Statement{SQL: sql, Args: args, Query: true} }

// exec is a statement that writes.
func exec(sql string, args ...any) Statement { return Statement{SQL: sql, Args: args} }
