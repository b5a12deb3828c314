package mariadb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strconv"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb"
)

// run sends the batch to a server and reads a result per statement. It fails
// with ReasonUnconfirmed if a replica was to confirm the commit and did not.
func (b *batch) run(ctx context.Context, db *sql.DB) ([]sqldb.Result, error) {
	out, _, err := b.runConfirmed(ctx, db)
	return out, err
}

// runConfirmed says also how the commit was acknowledged, "" if nobody asked.
func (b *batch) runConfirmed(ctx context.Context, db *sql.DB) ([]sqldb.Result, confirmation, error) {
	var (
		out []sqldb.Result
		how confirmation
	)
	err := withConn(ctx, db, func(conn *sql.Conn) error {
		sets, err := query(ctx, conn, b.text, b.args)
		if err != nil {
			return err
		}
		out, how, err = b.results(sets)
		return err
	})
	return out, how, err
}

// results assigns the result sets to the statements.
func (b *batch) results(sets []sqldb.Result) ([]sqldb.Result, confirmation, error) {
	want := len(b.tx.Statements)
	if b.confirm {
		want += 2
	}
	if len(sets) != want {
		return nil, "", services.Errorf(services.Internal, "%d result sets, want %d", len(sets), want)
	}
	var before, after counters
	if b.confirm {
		var err error
		if before, err = toCounters(sets[0]); err != nil {
			return nil, "", err
		}
		if after, err = toCounters(sets[want-1]); err != nil {
			return nil, "", err
		}
		sets = sets[1 : want-1]
	}
	out := make([]sqldb.Result, len(sets))
	changed := false
	for i, st := range b.tx.Statements {
		if st.Query {
			out[i] = sets[i]
			continue
		}
		n, err := only(sets[i])
		if err != nil {
			return nil, "", err
		}
		out[i].Changed = n
		changed = changed || n > 0
	}
	if !b.confirm {
		return out, "", nil
	}
	how := confirmed(before, after, changed)
	if how == confirmLate {
		return nil, how, unconfirmed()
	}
	return out, how, nil
}

// only is the number that is all of a result.
func only(r sqldb.Result) (int64, error) {
	if len(r.Rows) == 1 && len(r.Rows[0]) == 1 {
		switch v := r.Rows[0][0].(type) {
		case int64:
			return v, nil
		case string:
			if n, err := strconv.ParseInt(v, 10, 64); err == nil {
				return n, nil
			}
		}
	}
	return 0, services.Errorf(services.Internal, "the answer %v is no number", r.Rows)
}

// query sends a text of statements and reads all their result sets.
func query(ctx context.Context, conn *sql.Conn, text string, args []any) ([]sqldb.Result, error) {
	rows, err := conn.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, kinded(ctx, err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	var out []sqldb.Result
	for {
		r, err := readRows(rows)
		if err != nil {
			return nil, kinded(ctx, err)
		}
		if len(r.Columns) > 0 {
			out = append(out, r)
		}
		if !rows.NextResultSet() {
			return out, kinded(ctx, rows.Err())
		}
	}
}

// undoTime bounds the undoing of a failed transaction.
const undoTime = time.Second

// withConn runs f on a connection of a pool. When f fails, what it began is
// undone before the connection is used again; a connection on which that fails
// too is thrown away, and the server undoes it.
func withConn(ctx context.Context, db *sql.DB, f func(*sql.Conn) error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return &services.Error{Kind: services.Unavailable, Reason: ReasonUnreachable, Msg: "no connection to the server in time", Err: err}
		}
		return refusedConn(err)
	}
	defer func() { _ = conn.Close() }() // returns it to the pool
	err = f(conn)
	if err == nil {
		return nil
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if _, rerr := conn.ExecContext(undo, "ROLLBACK"); rerr != nil {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // which is how database/sql is told to drop it
	}
	return err
}
