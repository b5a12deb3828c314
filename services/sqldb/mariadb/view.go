package mariadb

import (
	"context"
	"database/sql"
	"strconv"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb"
)

// keeperDB is the Keepers' database. The table of promotions is replicated; the
// table node is each server's own and never is.
const (
	keeperDB   = "flix_keeper"
	promotions = keeperDB + ".promotions"
	nodeTable  = keeperDB + ".node"
)

// keeperSchema makes what is a server's own.
func keeperSchema() []string {
	return []string{
		`CREATE DATABASE IF NOT EXISTS ` + keeperDB + ` CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin`,
		`CREATE TABLE IF NOT EXISTS ` + nodeTable + ` (
			id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
			fenced INTEGER NOT NULL,
			diverged BIGINT NOT NULL
		)` + tableOptions,
	}
}

// promotionsSchema makes the table whose rows begin the epochs.
const promotionsSchema = `CREATE TABLE IF NOT EXISTS ` + promotions + ` (
	epoch BIGINT NOT NULL PRIMARY KEY,
	region VARCHAR(64) NOT NULL,
	position BIGINT NOT NULL,
	server BIGINT NOT NULL,
	at_us BIGINT NOT NULL
)` + tableOptions

// promotion begins an epoch: from the transaction after position on, history is
// the region's, run first by the server of that id.
type promotion struct {
	epoch    uint64
	region   string
	position uint64
	server   uint64
}

// newer orders promotions. Two of the same epoch are the work of two promotions
// at once: the first region by name stays.
func (p promotion) newer(q promotion) bool {
	if p.epoch != q.epoch {
		return p.epoch > q.epoch
	}
	return p.epoch > 0 && p.region < q.region
}

// view is what a server says of itself.
type view struct {
	readOnly bool
	// binlog and applied are the last transactions in its log and from the
	// primary.
	binlog, applied gtid
	semiSync        counters
	source          source
	// joined says that a Keeper has prepared the server; without it the rest
	// is empty.
	joined, fenced bool
	diverged       uint64
	// promotions that it knows of, oldest first.
	promotions []promotion
}

// source is where a replica gets its transactions.
type source struct {
	set  bool
	host string
	port int
	// receiving and applying are its two threads; connecting is a receiver
	// without a connection.
	receiving, connecting, applying bool
	// received is the last transaction in the relay log.
	received gtid
	// lag in seconds; -1 when it is not known.
	lag int64
	// failure is the number of the receiver's last error, 0 for none, and text
	// what either thread says.
	failure int64
	text    string
}

// position is the number of the last transaction that the server has.
func (v view) position() uint64 { return max(v.binlog.seq, v.applied.seq) }

// last is the newest promotion that the server knows of.
func (v view) last() promotion {
	if len(v.promotions) == 0 {
		return promotion{}
	}
	return v.promotions[len(v.promotions)-1]
}

// local counts the transactions that somebody ran on a server that was not the
// primary, such as an administrator for whom read_only does not count. A
// server's last transaction is otherwise from the primary that it knows of.
func (v view) local() uint64 {
	if v.binlog.seq <= v.applied.seq || v.binlog.server == v.last().server || len(v.promotions) == 0 {
		return 0
	}
	return v.binlog.seq - v.applied.seq
}

// strays counts the transactions of a server that another's history has not.
// Two histories with the same newest promotion agree up to it, and the one that
// knows of later promotions has left the other's epoch at the position where
// the next began (as in Raft's log matching, of which an epoch is a term).
func (v view) strays(history view) uint64 {
	if n := v.local(); n > 0 {
		return n
	}
	own, pos := v.last(), v.position()
	if own.epoch > 0 {
		known := promotion{}
		for _, p := range history.promotions {
			if p.epoch == own.epoch {
				known = p
			}
		}
		if known != own { // its epoch itself is a stray
			return pos - min(own.position, pos)
		}
	}
	for _, p := range history.promotions {
		if p.epoch > own.epoch {
			return pos - min(p.position, pos)
		}
	}
	return pos - min(history.position(), pos)
}

// What a server is asked: its variables and threads, then what the Keepers keep.
const (
	askState = "SELECT @@global.read_only, @@global.gtid_binlog_pos, @@global.gtid_slave_pos; " + readCounters + "; SHOW SLAVE STATUS"
	askNode  = "SELECT fenced, diverged FROM " + nodeTable
	askKept  = askNode + "; SELECT epoch, region, position, server FROM " + promotions + " ORDER BY epoch"
	// stateSets is how many result sets askState has.
	stateSets = 3
)

// look asks a server for its view, in one round trip. A server without the
// Keepers' tables, or some of them, is asked for less.
func look(ctx context.Context, db *sql.DB) (view, error) {
	var v view
	err := withConn(ctx, db, func(conn *sql.Conn) error {
		var sets []sqldb.Result
		for _, text := range []string{askState + "; " + askKept, askState + "; " + askNode, askState} {
			var err error
			sets, err = query(ctx, conn, text, nil)
			if err == nil {
				break
			}
			if services.ReasonOf(err) != ReasonNoSchema {
				return err
			}
		}
		if len(sets) < stateSets {
			return services.Errorf(services.Internal, "%d result sets of a server's state", len(sets))
		}
		if err := v.read(sets[:stateSets]); err != nil {
			return err
		}
		return v.readKept(sets[stateSets:])
	})
	return v, err
}

func (v *view) read(sets []sqldb.Result) error {
	if len(sets[0].Rows) != 1 {
		return services.Errorf(services.Internal, "%d rows of a server's variables", len(sets[0].Rows))
	}
	row, err := asTexts(sets[0].Rows[0])
	if err != nil {
		return err
	}
	v.readOnly = row[0] != "0"
	if v.binlog, err = parsePosition(row[1]); err != nil {
		return err
	}
	if v.applied, err = parsePosition(row[2]); err != nil {
		return err
	}
	if v.semiSync, err = toCounters(sets[1]); err != nil {
		return err
	}
	v.source, err = toSource(sets[2])
	return err
}

func (v *view) readKept(sets []sqldb.Result) error {
	if len(sets) == 0 || len(sets[0].Rows) == 0 {
		return nil // a Keeper has not been here, or was stopped while it prepared the server
	}
	row, err := asTexts(sets[0].Rows[0])
	if err != nil {
		return err
	}
	v.joined, v.fenced = true, row[0] != "0"
	if v.diverged, err = strconv.ParseUint(row[1], 10, 64); err != nil || len(sets) == 1 {
		return err
	}
	for _, r := range sets[1].Rows {
		row, err := asTexts(r)
		if err != nil {
			return err
		}
		p := promotion{region: row[1]}
		if p.epoch, err = strconv.ParseUint(row[0], 10, 64); err != nil {
			return err
		}
		if p.position, err = strconv.ParseUint(row[2], 10, 64); err != nil {
			return err
		}
		if p.server, err = strconv.ParseUint(row[3], 10, 64); err != nil {
			return err
		}
		v.promotions = append(v.promotions, p)
	}
	return nil
}

func toSource(r sqldb.Result) (source, error) {
	s := source{lag: -1}
	if len(r.Rows) == 0 {
		return s, nil
	}
	row, err := asTexts(r.Rows[0])
	if err != nil {
		return s, err
	}
	at := map[string]string{}
	for i, name := range r.Columns {
		at[name] = row[i]
	}
	s.set, s.host = at["Master_Host"] != "", at["Master_Host"]
	s.receiving, s.applying = at["Slave_IO_Running"] == "Yes", at["Slave_SQL_Running"] == "Yes"
	s.connecting = at["Slave_IO_Running"] == "Connecting" || at["Slave_IO_Running"] == "Preparing"
	s.text = at["Last_IO_Error"]
	if at["Last_SQL_Error"] != "" {
		s.text = at["Last_SQL_Error"]
	}
	if s.received, err = parsePosition(at["Gtid_IO_Pos"]); err != nil {
		return s, err
	}
	if s.port, err = strconv.Atoi(at["Master_Port"]); err != nil {
		return s, err
	}
	if lag := at["Seconds_Behind_Master"]; lag != "" {
		if s.lag, err = strconv.ParseInt(lag, 10, 64); err != nil {
			return s, err
		}
	}
	s.failure, err = strconv.ParseInt(at["Last_IO_Errno"], 10, 64)
	return s, err
}

// asTexts writes a row's values as MariaDB does; NULL is "".
func asTexts(row []any) ([]string, error) {
	out := make([]string, len(row))
	for i, v := range row {
		switch v := v.(type) {
		case nil:
		case string:
			out[i] = v
		case int64:
			out[i] = strconv.FormatInt(v, 10)
		default:
			return nil, services.Errorf(services.Internal, "a value of type %T among a server's state", v)
		}
	}
	return out, nil
}
