package sqldb

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/flix-lab/flix/services"
)

// row reads the values of one row in order and keeps the first error.
type row struct {
	values []any
	err    error
}

func (r *row) next() any {
	if len(r.values) == 0 {
		if r.err == nil {
			r.err = fmt.Errorf("a row is too short")
		}
		return nil
	}
	v := r.values[0]
	r.values = r.values[1:]
	return v
}

func (r *row) text() string {
	switch v := r.next().(type) {
	case string:
		return v
	case []byte:
		return string(v)
	default:
		r.fail("text", v)
		return ""
	}
}

// integer reads a number; some drivers hand over its digits.
func (r *row) integer() int64 {
	switch v := r.next().(type) {
	case int64:
		return v
	case []byte:
		n, err := strconv.ParseInt(string(v), 10, 64)
		if err != nil {
			r.fail("an integer", v)
		}
		return n
	default:
		r.fail("an integer", v)
		return 0
	}
}

func (r *row) time() time.Time {
	us := r.integer()
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

func (r *row) json(into any) {
	if err := json.Unmarshal([]byte(r.text()), into); err != nil && r.err == nil {
		r.err = err
	}
}

func (r *row) fail(want string, got any) {
	if r.err == nil {
		r.err = fmt.Errorf("want %s, got %T", want, got)
	}
}

func scanPlan(r *row) (p Plan) {
	p.ID, p.Name, p.MaxHeight, p.MaxStreams = r.text(), r.text(), int(r.integer()), int(r.integer())
	r.json(&p.Devices)
	p.PriceCents = int(r.integer())
	return p
}

func scanMember(r *row) Member {
	return Member{
		ID: services.MemberID(r.text()), Email: r.text(), Name: r.text(), Plan: r.text(),
		Country: r.text(), PasswordHash: r.text(), Created: r.time(),
	}
}

func scanTitle(r *row) (t Title) {
	t.ID, t.Name, t.Synopsis = services.TitleID(r.text()), r.text(), r.text()
	r.json(&t.Genres)
	t.Poster, t.Duration = r.text(), time.Duration(r.integer())*time.Microsecond
	r.json(&t.Rungs)
	r.json(&t.Countries)
	t.Live, t.Year = r.integer() != 0, int(r.integer())
	t.Available, t.MinSites = r.time(), int(r.integer())
	return t
}

func scanEntry(r *row) Entry {
	return Entry{Key: r.text(), Member: services.MemberID(r.text()), Kind: r.text(), Cents: int(r.integer()), At: r.time()}
}

func scanAll[T any](rows [][]any, err error, scan func(*row) T) ([]T, error) {
	if err != nil {
		return nil, err
	}
	out := make([]T, len(rows))
	for i, values := range rows {
		r := &row{values: values}
		if out[i] = scan(r); r.err != nil {
			return nil, fmt.Errorf("sqldb: broken row: %w", r.err)
		}
	}
	return out, nil
}

func scanOne[T any](op string, rows [][]any, err error, scan func(*row) T) (T, error) {
	all, err := scanAll(rows, err, scan)
	var none T
	if err != nil {
		return none, err
	}
	if len(all) == 0 {
		return none, &services.Error{Op: op, Kind: services.NotFound, Msg: "no such row"}
	}
	return all[0], nil
}

// list stores a slice as JSON; nil and empty are the same list.
func list[T any](l []T) string {
	if len(l) == 0 {
		return "[]"
	}
	b, err := json.Marshal(l)
	if err != nil { // strings and numbers always marshal
		panic(err)
	}
	return string(b)
}

// micros is how a time is stored; the zero time is 0.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}
