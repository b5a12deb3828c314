package sqldb

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
)

// canned answers every transaction alike.
type canned struct {
	rows   [][]any
	err    error
	closed int
}

func (c *canned) Run(_ context.Context, tx Tx) ([]Result, error) {
	out := make([]Result, len(tx.Statements))
	for i := range out {
		out[i].Rows = c.rows
	}
	return out, c.err
}

func (c *canned) Close() error { c.closed++; return nil }

func TestBrokenRows(t *testing.T) {
	for name, row := range map[string][]any{
		"too short":      {"p", "Plan"},
		"wrong type":     {"p", "Plan", "tall", int64(1), "[]", int64(1)},
		"no list":        {"p", "Plan", int64(1), int64(1), "{", int64(1)},
		"no number":      {"p", "Plan", []byte("x"), int64(1), "[]", int64(1)},
		"null in a text": {nil, "Plan", int64(1), int64(1), "[]", int64(1)},
	} {
		c := &canned{rows: [][]any{row}}
		if p, err := New(c, c).Plans(t.Context()); err == nil {
			t.Errorf("%s: read as %+v", name, p)
		}
	}
}

// Some drivers hand over text and numbers as bytes.
func TestRowsOfBytes(t *testing.T) {
	c := &canned{rows: [][]any{{[]byte("p"), []byte("Plan"), []byte("1080"), int64(2), []byte(`["tv"]`), []byte("99")}}}
	plans, err := New(c, c).Plans(t.Context())
	if err != nil || len(plans) != 1 || plans[0].MaxHeight != 1080 || plans[0].PriceCents != 99 || plans[0].Devices[0] != "tv" {
		t.Errorf("Plans = %+v, %v", plans, err)
	}
}

func TestErrorsKeepTheirKind(t *testing.T) {
	c := &canned{err: services.Errorf(services.Unavailable, "down").WithReason("x")}
	db := New(c, c)
	_, err := db.Title(t.Context(), "tt")
	if services.KindOf(err) != services.Unavailable || services.ReasonOf(err) != "x" {
		t.Errorf("Title: %v", err)
	}
	c.err = services.Errorf(services.Conflict, "taken")
	_, err = db.CreateMember(t.Context(), Member{ID: "m", Email: "a@b"}, Entry{Key: "k"})
	if services.KindOf(err) != services.Conflict || services.ReasonOf(err) != ReasonTaken || !errors.Is(err, c.err) {
		t.Errorf("CreateMember: %v", err)
	}
}

func TestCloseClosesEachOnce(t *testing.T) {
	r, w := &canned{}, &canned{}
	if err := errors.Join(New(r, w).Close(), New(r, r).Close()); err != nil {
		t.Fatal(err)
	}
	if r.closed != 2 || w.closed != 1 {
		t.Errorf("closed %d and %d times, want 2 and 1", r.closed, w.closed)
	}
}

func TestMicros(t *testing.T) {
	for _, want := range []time.Time{{}, time.UnixMicro(1).UTC(), time.UnixMicro(1_700_000_000_000_001).UTC()} {
		r := &row{values: []any{micros(want)}}
		if got := r.time(); !got.Equal(want) || r.err != nil {
			t.Errorf("%v comes back as %v, %v", want, got, r.err)
		}
	}
}
