package mariadb

import (
	"strings"
	"unicode"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb"
)

// batch is a transaction as one text of several statements, which the server
// runs in order and leaves at the first that fails.
type batch struct {
	text string
	args []any
	tx   sqldb.Tx
	// confirm: the first and the last result set are semi-synchronous
	// replication's counters.
	confirm bool
}

const (
	// maxStatements bounds a transaction, as in the embedded adapter.
	maxStatements = 256
	// maxArgBytes keeps a transaction within a packet, with its text and with
	// every byte escaped.
	maxArgBytes = maxPacket / 4
)

// changed hands over how many rows the statement before it changed. The
// variable outlives the SELECT, which sets ROW_COUNT anew.
const changed = "SELECT @flix_changed := ROW_COUNT()"

// mustChange ends the transaction when that was none.
const mustChange = "BEGIN NOT ATOMIC IF @flix_changed = 0 THEN SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 1644, MESSAGE_TEXT = 'no row changed'; END IF; END"

// newBatch writes down a transaction.
func newBatch(tx sqldb.Tx) (*batch, error) {
	if len(tx.Statements) == 0 || len(tx.Statements) > maxStatements {
		return nil, services.Errorf(services.Invalid, "a transaction of %d statements: want 1 to %d", len(tx.Statements), maxStatements)
	}
	b := &batch{tx: tx}
	writes, size := false, 0
	for _, st := range tx.Statements {
		if err := validStatement(st); err != nil {
			return nil, err
		}
		n, err := argBytes(st.Args)
		if err != nil {
			return nil, err
		}
		size += n + len(st.SQL)
		writes = writes || !st.Query
	}
	if size > maxArgBytes {
		return nil, services.Errorf(services.Invalid, "a transaction of %d bytes: the most are %d", size, maxArgBytes)
	}
	b.confirm = tx.Confirm && writes
	b.text, b.args = b.write(writes), b.allArgs()
	return b, nil
}

func (b *batch) write(writes bool) string {
	var lines []string
	if b.confirm {
		lines = append(lines, readCounters)
	}
	alone := len(b.tx.Statements) == 1 && !writes
	switch {
	case alone: // one query is a transaction of its own
	case writes:
		lines = append(lines, "START TRANSACTION")
	default:
		lines = append(lines, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
	}
	for _, st := range b.tx.Statements {
		lines = append(lines, st.SQL)
		if !st.Query {
			lines = append(lines, changed)
		}
		if st.MustChange {
			lines = append(lines, mustChange)
		}
	}
	if !alone {
		lines = append(lines, "COMMIT")
	}
	if b.confirm {
		lines = append(lines, readCounters)
	}
	return strings.Join(lines, "\n;\n")
}

func (b *batch) allArgs() []any {
	var out []any
	for _, st := range b.tx.Statements {
		out = append(out, st.Args...)
	}
	return out
}

func argBytes(args []any) (int, error) {
	n := 0
	for _, a := range args {
		switch a := a.(type) {
		case string:
			n += len(a)
		case []byte:
			n += len(a)
		case nil, int64, float64:
			n += 8
		default:
			return 0, services.Errorf(services.Invalid, "a value of type %T: want string, int64, float64, []byte or nil", a)
		}
	}
	return n, nil
}

// validStatement refuses what could break out of its place in the batch, and
// anything but plain reads and changes of rows.
func validStatement(st sqldb.Statement) error {
	sql := strings.TrimSpace(st.SQL)
	verb := strings.ToUpper(sql)
	if i := strings.IndexFunc(verb, unicode.IsSpace); i >= 0 {
		verb = verb[:i]
	}
	allowed := []string{"INSERT", "REPLACE", "UPDATE", "DELETE"}
	if st.Query {
		allowed = []string{"SELECT"}
	}
	for _, a := range allowed {
		if verb == a && !strings.ContainsAny(sql, ";#\\") && !strings.Contains(sql, "/*") && !strings.Contains(sql, "--") &&
			!strings.Contains(strings.ToLower(sql), keeperDB) && strings.Count(sql, "?") == len(st.Args) {
			return nil
		}
	}
	return services.Errorf(services.Invalid, "statement %.40q: want one %s on the lab's tables, without comments, and a ? per argument", sql, strings.Join(allowed, ", "))
}
