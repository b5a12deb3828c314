package mariadb

import (
	"database/sql"
	"strings"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb"
)

// maxResultBytes bounds an answer, as in the embedded adapter.
const maxResultBytes = 3 << 20

// readRows reads the result set that rows stands at.
func readRows(rows *sql.Rows) (sqldb.Result, error) {
	var r sqldb.Result
	types, err := rows.ColumnTypes()
	if err != nil {
		return r, err
	}
	for _, t := range types {
		r.Columns = append(r.Columns, t.Name())
	}
	values, into := make([]any, len(types)), make([]any, len(types))
	for i := range values {
		into[i] = &values[i]
	}
	size := 0
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return r, err
		}
		row := make([]any, len(types))
		for i, v := range values {
			if row[i], err = cell(types[i].DatabaseTypeName(), v); err != nil {
				return r, err
			}
			size += 8 + length(row[i])
		}
		if size > maxResultBytes {
			return r, services.Errorf(services.Invalid, "the answer is larger than %d bytes: ask for fewer rows", maxResultBytes)
		}
		r.Rows = append(r.Rows, row)
	}
	return r, rows.Err()
}

func length(v any) int {
	switch v := v.(type) {
	case string:
		return len(v)
	case []byte:
		return len(v)
	}
	return 0
}

// cell is a value as the port has it: text is a string, and only what the
// column calls binary stays bytes.
func cell(typeName string, v any) (any, error) {
	switch v := v.(type) {
	case nil, int64, float64, string:
		return v, nil
	case uint64:
		if v > 1<<63-1 {
			return nil, services.Errorf(services.Internal, "the number %d is out of range", v)
		}
		return int64(v), nil
	case float32:
		return float64(v), nil
	case []byte:
		if strings.HasSuffix(typeName, "BLOB") || strings.HasSuffix(typeName, "BINARY") {
			return v, nil
		}
		return string(v), nil
	}
	return nil, services.Errorf(services.Internal, "a column of type %s came as %T", typeName, v)
}
