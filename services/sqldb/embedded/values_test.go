package embedded

import (
	"context"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb/sqldbpb"
)

func TestValues(t *testing.T) {
	for _, v := range []any{nil, "", "text", int64(-1 << 63), 1.5, []byte{0, 1}} {
		w, err := toValue(v)
		if err != nil || !reflect.DeepEqual(fromValue(w), v) {
			t.Errorf("%#v comes back as %#v, %v", v, fromValue(w), err)
		}
	}
	if _, err := toValue(true); services.KindOf(err) != services.Invalid {
		t.Errorf("toValue(true): %v", err)
	}
}

func TestValidStatement(t *testing.T) {
	cases := []struct {
		sql   string
		query bool
		ok    bool
	}{
		{"SELECT 1", true, true},
		{" \n select * from plans", true, true},
		{"select\n*\nfrom plans", true, true},
		{"SELECT 1", false, false},
		{"INSERT INTO plans VALUES (1)", false, true},
		{"INSERT INTO plans VALUES (1)", true, false},
		{"replace into plans values (1)", false, true},
		{"UPDATE plans SET id = 1", false, true},
		{"DELETE FROM plans", false, true},
		{"DELETE FROM plans; DROP TABLE plans", false, false},
		{"DELETE FROM flix_changesets", false, false},
		{"DELETE FROM FLIX_STATE", false, false},
		{"SELECT body FROM flix_changesets", true, false},
		{"WITH x AS (DELETE FROM plans RETURNING 1) SELECT 1", true, false},
		{"PRAGMA journal_mode=DELETE", false, false},
		{"COMMIT", false, false},
		{"ATTACH 'x' AS y", false, false},
		{"", false, false},
	}
	for _, c := range cases {
		if err := validStatement(&sqldbpb.Statement{Sql: c.sql, Query: c.query}); (err == nil) != c.ok {
			t.Errorf("%q (query %v): %v, want ok=%v", c.sql, c.query, err, c.ok)
		}
	}
}

// What is let through as a query changes nothing, whatever it says.
func FuzzQueriesDoNotWrite(f *testing.F) {
	h, err := openHistory(f.TempDir(), true)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := h.db.close(); err != nil {
			f.Error(err)
		}
	})
	f.Add("SELECT 1")
	f.Add("SELECT * FROM plans")
	f.Add("SELECT (SELECT 1) FROM sqlite_master -- x")
	f.Fuzz(func(t *testing.T, sql string) {
		// A statement that computes for ever is not what this looks for.
		if strings.Contains(strings.ToUpper(sql), "WITH") || len(sql) > 200 {
			t.Skip()
		}
		st := &sqldbpb.Statement{Sql: sql, Query: true}
		if validStatement(st) != nil {
			return
		}
		before := version(t, h)
		_, err := h.db.read(context.Background(), []*sqldbpb.Statement{st})
		if after := version(t, h); after != before {
			t.Errorf("%q (%v) changed the schema: %d, was %d", sql, err, after, before)
		}
	})
}

func version(t *testing.T, h *history) (v int64) {
	t.Helper()
	if err := h.db.writer.QueryRow(`SELECT (SELECT COUNT(*) FROM sqlite_master) * 1000 + (SELECT COUNT(*) FROM plans) + total_changes()`).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestDSNTakesAnyPath(t *testing.T) {
	for _, name := range []string{"plain", "with space", "a?b#c", "100%25", "ü"} {
		dir := filepath.Join(t.TempDir(), name)
		h, err := openHistory(dir, false)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if m, err := filepath.Glob(filepath.Join(filepath.Dir(dir), "*", "flix.db")); err != nil || len(m) != 1 {
			t.Errorf("%q: the database is not there: %v, %v", name, m, err)
		}
		if err := h.db.close(); err != nil {
			t.Error(err)
		}
	}
}

func TestErrorKinds(t *testing.T) {
	h, err := openHistory(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.db.close(); err != nil {
			t.Error(err)
		}
	}()
	read := func(sql string) error {
		_, err := h.db.read(t.Context(), []*sqldbpb.Statement{{Sql: sql, Query: true}})
		return err
	}
	if err := read("SELECT nonsense FROM nowhere"); services.KindOf(err) != services.Invalid {
		t.Errorf("a wrong statement: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.db.read(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
}

func TestFollowersAwait(t *testing.T) {
	f := newFollowers()
	if how := f.await(t.Context(), 1); how != confirmAlone {
		t.Errorf("nobody connected: %s", how)
	}
	leave := f.join("us-west")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if how := f.await(ctx, 1); how != confirmLate {
		t.Errorf("nobody answered: %s", how)
	}
	got := make(chan confirmation)
	go func() { got <- f.await(t.Context(), 2) }()
	f.confirm("us-west", 1)
	f.confirm("us-west", 2)
	if how := <-got; how != confirmReplica {
		t.Errorf("confirmed: %s", how)
	}
	go func() { got <- f.await(t.Context(), 3) }()
	leave()
	if how := <-got; how != confirmAlone {
		t.Errorf("the last one left: %s", how)
	}
}
