package embedded

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/services/sqldb/sqldbpb"
)

// ownPrefix begins the names of the node's own tables.
const ownPrefix = "flix_"

// ownSchema holds the node's state, its log and what was cut off it.
func ownSchema() []string {
	return []string{
		`CREATE TABLE IF NOT EXISTS flix_state (
			id INTEGER PRIMARY KEY CHECK (id = 1),
			is_primary INTEGER NOT NULL, fenced INTEGER NOT NULL, epoch INTEGER NOT NULL, position INTEGER NOT NULL
		)`,
		`CREATE TABLE IF NOT EXISTS flix_changesets (position INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, body BLOB NOT NULL)`,
		`CREATE TABLE IF NOT EXISTS flix_diverged (
			id INTEGER PRIMARY KEY, position INTEGER NOT NULL, epoch INTEGER NOT NULL, body BLOB NOT NULL, found_us INTEGER NOT NULL
		)`,
	}
}

// database is the SQLite file: one connection that writes, a few that read.
type database struct {
	writer, reader *sql.DB
	// turn is held by the one who writes; a channel, so that waiting for it
	// ends with a context.
	turn chan struct{}
}

const maxReaders = 2

func openDatabase(dir string) (*database, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "flix.db")
	// While the file is made nothing waits for the disk; see migrate.
	writer, err := sql.Open("sqlite", dsn(path, url.Values{
		"_txlock": {"immediate"}, "_journal_mode": {"WAL"}, // the driver sets it after the pragmas
		"_pragma": {"busy_timeout(5000)", "synchronous(OFF)", "cache_size(-512)", "journal_size_limit(4194304)"},
	}))
	if err != nil {
		return nil, err
	}
	writer.SetMaxOpenConns(1)
	reader, err := sql.Open("sqlite", dsn(path, url.Values{
		"_pragma": {"busy_timeout(5000)", "query_only(1)", "cache_size(-256)"},
	}))
	if err != nil {
		return nil, errors.Join(err, writer.Close())
	}
	reader.SetMaxOpenConns(maxReaders)
	reader.SetMaxIdleConns(1)
	db := &database{writer: writer, reader: reader, turn: make(chan struct{}, 1)}
	if err := db.migrate(); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.close())
	}
	return db, nil
}

func dsn(path string, q url.Values) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

// migrate makes the tables: a node is readable before it has met a primary.
//
// From then on the file is synced at checkpoints (NORMAL), so that a loss of
// power does not break it; the log is left to the page cache, which a killed
// process does not take with it.
func (d *database) migrate() error {
	err := d.tx(context.Background(), func(tx *sql.Tx) error {
		for _, q := range append(ownSchema(), sqldb.Schema()...) {
			if _, err := tx.Exec(q); err != nil {
				return err
			}
		}
		return nil
	}, func() {})
	if err != nil {
		return err
	}
	_, err = d.writer.Exec(`PRAGMA synchronous = NORMAL`)
	return err
}

func (d *database) close() error { return errors.Join(d.reader.Close(), d.writer.Close()) }

// tx runs f in a write transaction, when its turn comes before ctx ends. Once
// begun it is not interrupted: it is short, and half a commit helps nobody.
// committed runs after the commit and before the next writer's turn.
func (d *database) tx(ctx context.Context, f func(tx *sql.Tx) error, committed func()) error {
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return services.Wrap("wait for the writer", ctx.Err())
	}
	tx, err := d.writer.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		if rerr := tx.Rollback(); rerr != nil {
			err = errors.Join(err, rerr)
		}
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	committed()
	return nil
}

// queryer is a transaction or a pool.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// read runs queries as one transaction on this node's copy.
func (d *database) read(ctx context.Context, in []*sqldbpb.Statement) ([]*sqldbpb.Result, error) {
	tx, err := d.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, ended(ctx, err)
	}
	defer func() { _ = tx.Rollback() }() // there is nothing to undo
	out := make([]*sqldbpb.Result, len(in))
	for i, st := range in {
		if out[i], err = queryRows(ctx, tx, st); err != nil {
			return nil, ended(ctx, err)
		}
	}
	return out, nil
}

// ended prefers the context's end to what the driver makes of it.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return kinded(err)
}

func args(st *sqldbpb.Statement) []any {
	out := make([]any, len(st.GetArgs()))
	for i, a := range st.GetArgs() {
		out[i] = fromValue(a)
	}
	return out
}

// execute runs the statements in order and says whether any row changed.
func execute(ctx context.Context, tx *sql.Tx, in []*sqldbpb.Statement) (out []*sqldbpb.Result, changed bool, err error) {
	for _, st := range in {
		if st.GetQuery() {
			r, err := queryRows(ctx, tx, st)
			if err != nil {
				return nil, false, kinded(err)
			}
			out = append(out, r)
			continue
		}
		res, err := tx.ExecContext(ctx, st.GetSql(), args(st)...)
		if err != nil {
			return nil, false, kinded(err)
		}
		n, err := res.RowsAffected()
		if err != nil {
			return nil, false, err
		}
		if n == 0 && st.GetMustChange() {
			return nil, false, services.Errorf(services.Conflict, "a statement of the transaction changed no row").WithReason(ReasonNoChange)
		}
		changed = changed || n > 0
		out = append(out, &sqldbpb.Result{Changed: n})
	}
	return out, changed, nil
}

// maxResultBytes bounds an answer, which has to fit into one message.
const maxResultBytes = 3 << 20

func queryRows(ctx context.Context, q queryer, st *sqldbpb.Statement) (*sqldbpb.Result, error) {
	rows, err := q.QueryContext(ctx, st.GetSql(), args(st)...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	r := &sqldbpb.Result{}
	if r.Columns, err = rows.Columns(); err != nil {
		return nil, err
	}
	values := make([]any, len(r.Columns))
	into := make([]any, len(r.Columns))
	for i := range values {
		into[i] = &values[i]
	}
	size := 0
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		row := &sqldbpb.Row{}
		for _, v := range values {
			w, err := cell(v)
			if err != nil {
				return nil, err
			}
			row.Values = append(row.Values, w)
			size += 8 + len(w.GetText()) + len(w.GetBlob())
		}
		if size > maxResultBytes {
			return nil, services.Errorf(services.Invalid, "the answer is larger than %d bytes: ask for fewer rows", maxResultBytes)
		}
		r.Rows = append(r.Rows, row)
	}
	return r, rows.Err()
}

// kinded gives an error of SQLite its kind.
func kinded(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return &services.Error{Kind: services.Conflict, Reason: ReasonExists, Msg: "a row with this key exists", Err: err}
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_INTERRUPT:
		return &services.Error{Kind: services.Unavailable, Msg: "the database is busy", Err: err}
	case sqlite3.SQLITE_ERROR:
		return &services.Error{Kind: services.Invalid, Msg: "the statement is wrong", Err: err}
	}
	return err
}

// Reasons of a failed transaction.
const (
	// ReasonNotPrimary: the node that was asked to write is not the primary.
	ReasonNotPrimary = "not_primary"
	// ReasonFenced: the primary refuses writes until another one is promoted.
	ReasonFenced = "fenced"
	// ReasonNoPrimary: no primary is in reach.
	ReasonNoPrimary = "no_primary"
	// ReasonExists: a unique key is taken.
	ReasonExists = "key_exists"
	// ReasonNoChange: a statement that had to change a row did not.
	ReasonNoChange = "no_change"
)
