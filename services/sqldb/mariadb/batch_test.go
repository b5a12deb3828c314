package mariadb

import (
	"slices"
	"strings"
	"testing"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb"
)

func TestBatch(t *testing.T) {
	read := sqldb.Statement{SQL: "SELECT ?", Args: []any{"a"}, Query: true}
	write := sqldb.Statement{SQL: "INSERT INTO plans VALUES (?)", Args: []any{int64(1)}, MustChange: true}
	cases := []struct {
		name string
		tx   sqldb.Tx
		want []string
	}{
		{"one query", sqldb.Tx{Statements: []sqldb.Statement{read}}, []string{read.SQL}},
		{"a query asks for no confirmation", sqldb.Tx{Statements: []sqldb.Statement{read}, Confirm: true}, []string{read.SQL}},
		{"queries", sqldb.Tx{Statements: []sqldb.Statement{read, read}}, []string{
			"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY", read.SQL, read.SQL, "COMMIT",
		}},
		{"a write", sqldb.Tx{Statements: []sqldb.Statement{write, read}, Confirm: true}, []string{
			readCounters, "START TRANSACTION", write.SQL, changed, mustChange, read.SQL, "COMMIT", readCounters,
		}},
	}
	for _, c := range cases {
		b, err := newBatch(c.tx)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := strings.Split(b.text, "\n;\n"); !slices.Equal(got, c.want) {
			t.Errorf("%s:\n%q\nwant\n%q", c.name, got, c.want)
		}
		if n := strings.Count(b.text, "?"); n != len(b.args) {
			t.Errorf("%s: %d places for %d arguments", c.name, n, len(b.args))
		}
	}
}

func TestBatchRefuses(t *testing.T) {
	one := func(sql string, query bool, args ...any) sqldb.Tx {
		return sqldb.Tx{Statements: []sqldb.Statement{{SQL: sql, Query: query, Args: args}}}
	}
	for name, tx := range map[string]sqldb.Tx{
		"nothing":                   {},
		"too many statements":       {Statements: make([]sqldb.Statement, maxStatements+1)},
		"two in one":                one("DELETE FROM plans; DROP TABLE plans", false),
		"a line comment":            one("SELECT 1 -- ", true),
		"a comment":                 one("SELECT 1 /* ", true),
		"another comment":           one("SELECT 1 #", true),
		"an escape":                 one(`SELECT '\'`, true),
		"a write as a query":        one("DELETE FROM plans", true),
		"a query as a write":        one("SELECT 1", false),
		"a setting":                 one("SET GLOBAL read_only = 0", false),
		"the Keepers' tables":       one("DELETE FROM flix_keeper.promotions", false),
		"a missing argument":        one("SELECT ?", true),
		"an argument too many":      one("SELECT 1", true, "x"),
		"an argument of other type": one("SELECT ?", true, true),
		"too long":                  one("SELECT ?", true, strings.Repeat("x", maxArgBytes)),
	} {
		if _, err := newBatch(tx); services.KindOf(err) != services.Invalid {
			t.Errorf("%s: %v, want Invalid", name, err)
		}
	}
}

func TestResults(t *testing.T) {
	number := func(n int64) sqldb.Result { return sqldb.Result{Columns: []string{"n"}, Rows: [][]any{{n}}} }
	tx := sqldb.Tx{Confirm: true, Statements: []sqldb.Statement{
		{SQL: "DELETE FROM plans"}, {SQL: "SELECT 1", Query: true},
	}}
	b, err := newBatch(tx)
	if err != nil {
		t.Fatal(err)
	}
	before := status("ON", "1", "5", "0")
	out, how, err := b.results([]sqldb.Result{before, number(3), number(1), status("ON", "1", "6", "0")})
	if err != nil || how != confirmReplica || out[0].Changed != 3 || out[1].Rows[0][0] != int64(1) {
		t.Errorf("results = %+v, %s, %v", out, how, err)
	}
	_, how, err = b.results([]sqldb.Result{before, number(3), number(1), status("OFF", "1", "5", "1")})
	if services.ReasonOf(err) != ReasonUnconfirmed || how != confirmLate {
		t.Errorf("an unconfirmed commit: %s, %v", how, err)
	}
	if _, _, err = b.results([]sqldb.Result{before}); err == nil {
		t.Error("an answer that is cut short is taken")
	}
}

func status(on, replicas, yes, no string) sqldb.Result {
	return sqldb.Result{Columns: []string{"Variable_name", "Value"}, Rows: [][]any{
		{"Rpl_semi_sync_master_clients", replicas}, {"Rpl_semi_sync_master_no_tx", no},
		{"Rpl_semi_sync_master_status", on}, {"Rpl_semi_sync_master_yes_tx", yes}, {"Rpl_semi_sync_master_tx_waits", "9"},
	}}
}

func TestConfirmed(t *testing.T) {
	base := counters{on: true, replicas: 2, yes: 10, no: 3}
	cases := []struct {
		name    string
		after   counters
		changed bool
		want    confirmation
	}{
		{"confirmed", counters{on: true, replicas: 2, yes: 11, no: 3}, true, confirmReplica},
		{"with others", counters{on: true, replicas: 2, yes: 15, no: 3}, true, confirmReplica},
		{"with one that was not", counters{on: true, replicas: 2, yes: 15, no: 4}, true, confirmLate},
		{"timed out", counters{replicas: 2, yes: 10, no: 4}, true, confirmLate},
		{"not switched on", counters{replicas: 2, yes: 10, no: 3}, true, confirmLate},
		{"nobody connected", counters{yes: 10, no: 4}, true, confirmAlone},
		{"confirmed, then all left", counters{yes: 11, no: 3}, true, confirmReplica},
		{"nothing changed", base, false, confirmReplica},
		{"nothing changed, what was read is unconfirmed", counters{replicas: 2, yes: 10, no: 3}, false, confirmLate},
		{"nothing changed, nobody connected", counters{yes: 10, no: 3}, false, confirmAlone},
	}
	for _, c := range cases {
		if got := confirmed(base, c.after, c.changed); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestCountersRefuseNonsense(t *testing.T) {
	if _, err := toCounters(status("ON", "many", "1", "1")); err == nil {
		t.Error("a count that is no number is taken")
	}
	if _, err := toCounters(sqldb.Result{Rows: [][]any{{"x"}}}); err == nil {
		t.Error("a row of one column is taken")
	}
}
