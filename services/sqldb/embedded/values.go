package embedded

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/services/sqldb/sqldbpb"
)

func toValue(v any) (*sqldbpb.Value, error) {
	switch v := v.(type) {
	case nil:
		return &sqldbpb.Value{V: &sqldbpb.Value_Null{Null: true}}, nil
	case string:
		return &sqldbpb.Value{V: &sqldbpb.Value_Text{Text: v}}, nil
	case int64:
		return &sqldbpb.Value{V: &sqldbpb.Value_Integer{Integer: v}}, nil
	case float64:
		return &sqldbpb.Value{V: &sqldbpb.Value_Real{Real: v}}, nil
	case []byte:
		return &sqldbpb.Value{V: &sqldbpb.Value_Blob{Blob: v}}, nil
	}
	return nil, services.Errorf(services.Invalid, "a value of type %T: want string, int64, float64, []byte or nil", v)
}

func fromValue(v *sqldbpb.Value) any {
	switch v := v.GetV().(type) {
	case *sqldbpb.Value_Text:
		return v.Text
	case *sqldbpb.Value_Integer:
		return v.Integer
	case *sqldbpb.Value_Real:
		return v.Real
	case *sqldbpb.Value_Blob:
		return v.Blob
	}
	return nil
}

func toStatements(in []sqldb.Statement) ([]*sqldbpb.Statement, error) {
	out := make([]*sqldbpb.Statement, len(in))
	for i, st := range in {
		w := &sqldbpb.Statement{Sql: st.SQL, Query: st.Query, MustChange: st.MustChange}
		for _, a := range st.Args {
			v, err := toValue(a)
			if err != nil {
				return nil, err
			}
			w.Args = append(w.Args, v)
		}
		out[i] = w
	}
	return out, nil
}

func fromResults(in []*sqldbpb.Result) []sqldb.Result {
	out := make([]sqldb.Result, len(in))
	for i, r := range in {
		out[i] = sqldb.Result{Columns: r.GetColumns(), Changed: r.GetChanged(), Rows: make([][]any, len(r.GetRows()))}
		for j, row := range r.GetRows() {
			values := make([]any, len(row.GetValues()))
			for k, v := range row.GetValues() {
				values[k] = fromValue(v)
			}
			out[i].Rows[j] = values
		}
	}
	return out
}

// maxStatements bounds a transaction.
const maxStatements = 256

// validStatements refuses what replication could not carry: anything but plain
// reads and changes of rows, one statement at a time, outside the node's own
// tables.
func validStatements(in []*sqldbpb.Statement) error {
	if len(in) == 0 || len(in) > maxStatements {
		return services.Errorf(services.Invalid, "a transaction of %d statements: want 1 to %d", len(in), maxStatements)
	}
	for _, st := range in {
		if err := validStatement(st); err != nil {
			return err
		}
	}
	return nil
}

func validStatement(st *sqldbpb.Statement) error {
	sql := strings.TrimSpace(st.GetSql())
	verb := strings.ToUpper(sql)
	if i := strings.IndexFunc(verb, unicode.IsSpace); i >= 0 {
		verb = verb[:i]
	}
	allowed := []string{"INSERT", "REPLACE", "UPDATE", "DELETE"}
	if st.GetQuery() {
		allowed = []string{"SELECT"}
	}
	for _, a := range allowed {
		if verb == a && !strings.Contains(sql, ";") && !strings.Contains(strings.ToLower(sql), ownPrefix) {
			return nil
		}
	}
	return services.Errorf(services.Invalid, "statement %.40q: want one %s on the lab's tables", sql, strings.Join(allowed, ", "))
}

func cell(v any) (*sqldbpb.Value, error) {
	w, err := toValue(v)
	if err != nil {
		return nil, fmt.Errorf("column type: %w", err)
	}
	return w, nil
}
