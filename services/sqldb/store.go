package sqldb

import (
	"context"
	"errors"
	"strings"

	"github.com/flix-lab/flix/services"
)

// store is the DB over any adapter: all the SQL of the lab is in this file.
type store struct {
	read, write Conn
}

// New makes a DB of two connections: read answers queries and may lag behind,
// write runs transactions on the primary. They may be the same one. Close
// closes both.
func New(read, write Conn) DB { return &store{read: read, write: write} }

// Close implements DB.
func (s *store) Close() error {
	if s.read == s.write {
		return s.read.Close()
	}
	return errors.Join(s.read.Close(), s.write.Close())
}

const (
	planColumns   = `id, name, max_height, max_streams, devices, price_cents`
	memberColumns = `m.id, m.email, m.name, m.plan, m.country, m.password_hash, m.created_us`
	titleColumns  = `id, name, synopsis, genres, poster, duration_us, rungs, countries, live, release_year, available_us, min_sites`
	entryColumns  = `entry_key, member, kind, cents, at_us`
)

// pageRows is how many rows one query of a list returns at most.
const pageRows = 500

// Plans implements DB.
func (s *store) Plans(ctx context.Context) ([]Plan, error) {
	rows, err := s.query(ctx, "sqldb.Plans", query(`SELECT `+planColumns+` FROM plans ORDER BY price_cents, id`))
	return scanAll(rows, err, scanPlan)
}

// PutPlan implements DB.
func (s *store) PutPlan(ctx context.Context, p Plan) error {
	if p.ID == "" {
		return services.Errorf(services.Invalid, "a plan needs an id")
	}
	return s.exec(ctx, "sqldb.PutPlan "+p.ID, exec(`REPLACE INTO plans (`+planColumns+`) VALUES (?, ?, ?, ?, ?, ?)`,
		p.ID, p.Name, int64(p.MaxHeight), int64(p.MaxStreams), list(p.Devices), int64(p.PriceCents)))
}

// Member implements DB.
func (s *store) Member(ctx context.Context, id services.MemberID) (Member, error) {
	op := "sqldb.Member " + string(id)
	rows, err := s.query(ctx, op, query(`SELECT `+memberColumns+` FROM members m WHERE m.id = ?`, string(id)))
	return scanOne(op, rows, err, scanMember)
}

// MemberByEmail implements DB.
func (s *store) MemberByEmail(ctx context.Context, email string) (Member, error) {
	const op = "sqldb.MemberByEmail"
	rows, err := s.query(ctx, op, query(`SELECT `+memberColumns+` FROM members m WHERE m.email = ?`, address(email)))
	return scanOne(op, rows, err, scanMember)
}

// address is the form in which an email address is stored and looked up.
func address(email string) string { return strings.ToLower(strings.TrimSpace(email)) }

// ReasonTaken marks the conflict of a member whose email address or id exists.
const ReasonTaken = "member_exists"

// CreateMember implements DB. The ledger's key decides: a transaction that
// finds it changes nothing and reads who it belongs to.
func (s *store) CreateMember(ctx context.Context, m Member, first Entry) (Member, error) {
	op := "sqldb.CreateMember " + string(m.ID)
	if m.ID == "" || address(m.Email) == "" || first.Key == "" {
		return Member{}, &services.Error{Op: op, Kind: services.Invalid, Msg: "a member needs an id, an email address and a ledger entry with a key"}
	}
	first.Member = m.ID
	rs, err := s.write.Run(ctx, Tx{Confirm: true, Statements: []Statement{
		exec(`INSERT INTO members (id, email, name, plan, country, password_hash, created_us)
			SELECT ?, ?, ?, ?, ?, ?, ? FROM (SELECT 1 AS one) AS d
			WHERE NOT EXISTS (SELECT 1 FROM ledger WHERE entry_key = ?)`,
			string(m.ID), address(m.Email), m.Name, m.Plan, m.Country, m.PasswordHash, micros(m.Created), first.Key),
		insertEntry(first),
		query(`SELECT `+memberColumns+` FROM ledger l JOIN members m ON m.id = l.member WHERE l.entry_key = ?`, first.Key),
	}})
	if services.KindOf(err) == services.Conflict {
		return Member{}, &services.Error{Op: op, Kind: services.Conflict, Reason: ReasonTaken, Msg: "the email address or the id is taken", Err: err}
	}
	if err != nil {
		return Member{}, services.Wrap(op, err)
	}
	return scanOne(op, rs[2].Rows, nil, scanMember)
}

// insertEntry adds an entry unless its key is there.
func insertEntry(e Entry) Statement {
	return exec(`INSERT INTO ledger (`+entryColumns+`)
		SELECT ?, ?, ?, ?, ? FROM (SELECT 1 AS one) AS d
		WHERE NOT EXISTS (SELECT 1 FROM ledger WHERE entry_key = ?)`,
		e.Key, string(e.Member), e.Kind, int64(e.Cents), micros(e.At), e.Key)
}

// Title implements DB.
func (s *store) Title(ctx context.Context, id services.TitleID) (Title, error) {
	op := "sqldb.Title " + string(id)
	rows, err := s.query(ctx, op, query(`SELECT `+titleColumns+` FROM titles WHERE id = ?`, string(id)))
	return scanOne(op, rows, err, scanTitle)
}

// Titles implements DB. It reads the catalogue in pages, each after the last
// row of the one before.
func (s *store) Titles(ctx context.Context) ([]Title, error) {
	var all []Title
	name, id := "", ""
	for {
		rows, err := s.query(ctx, "sqldb.Titles", query(`SELECT `+titleColumns+` FROM titles
			WHERE name > ? OR (name = ? AND id > ?) ORDER BY name, id LIMIT ?`, name, name, id, int64(pageRows)))
		page, err := scanAll(rows, err, scanTitle)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < pageRows {
			return all, nil
		}
		last := page[len(page)-1]
		name, id = last.Name, string(last.ID)
	}
}

// PutTitle implements DB.
func (s *store) PutTitle(ctx context.Context, t Title) error {
	if t.ID == "" {
		return services.Errorf(services.Invalid, "a title needs an id")
	}
	live := int64(0)
	if t.Live {
		live = 1
	}
	return s.exec(ctx, "sqldb.PutTitle "+string(t.ID), exec(`REPLACE INTO titles (`+titleColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		string(t.ID), t.Name, t.Synopsis, list(t.Genres), t.Poster, t.Duration.Microseconds(),
		list(t.Rungs), list(t.Countries), live, int64(t.Year), micros(t.Available), int64(t.MinSites)))
}

// changing is the plan of a member in the middle of ChangePlan's transaction,
// which nobody else sees. It is no plan's id.
const changing = "(changing)"

// ChangePlan implements DB. As in CreateMember the ledger's key decides, and
// beside it the plan: of two changes at once, or one by somebody whose replica
// is behind, the second would cost the difference to a plan that is over.
func (s *store) ChangePlan(ctx context.Context, c PlanChange) (m Member, done bool, err error) {
	op, id, e := "sqldb.ChangePlan "+string(c.Member), string(c.Member), c.Entry
	if id == "" || c.From == "" || c.To == "" || e.Key == "" {
		return Member{}, false, &services.Error{Op: op, Kind: services.Invalid, Msg: "a change of plan needs a member, two plans and a ledger entry with a key"}
	}
	e.Member = c.Member
	insert := insertEntry(e)
	insert.SQL += ` AND EXISTS (SELECT 1 FROM members WHERE id = ? AND plan = ?)`
	insert.Args = append(insert.Args, id, changing)
	rs, err := s.write.Run(ctx, Tx{Confirm: true, Statements: []Statement{
		exec(`UPDATE members SET plan = ? WHERE id = ? AND plan = ? AND NOT EXISTS (SELECT 1 FROM ledger WHERE entry_key = ?)`, changing, id, c.From, e.Key),
		insert,
		exec(`UPDATE members SET plan = ? WHERE id = ? AND plan = ?`, c.To, id, changing),
		query(`SELECT `+memberColumns+` FROM members m WHERE m.id = ?`, id),
		query(`SELECT `+entryColumns+` FROM ledger WHERE entry_key = ?`, e.Key),
	}})
	if err != nil {
		return Member{}, false, services.Wrap(op, err)
	}
	if m, err = scanOne(op, rs[3].Rows, nil, scanMember); err != nil || len(rs[4].Rows) == 0 {
		return m, false, err
	}
	if was, err := scanOne(op, rs[4].Rows, nil, scanEntry); err != nil || was.Member != c.Member {
		return Member{}, false, errors.Join(&services.Error{Op: op, Kind: services.Conflict, Msg: "the key " + e.Key + " is another member's"}, err)
	}
	return m, true, nil
}

// AppendEntry implements DB.
func (s *store) AppendEntry(ctx context.Context, e Entry) error {
	op := "sqldb.AppendEntry " + e.Key
	if e.Key == "" || e.Member == "" {
		return &services.Error{Op: op, Kind: services.Invalid, Msg: "an entry needs a key and a member"}
	}
	insert := insertEntry(e)
	insert.SQL += ` AND EXISTS (SELECT 1 FROM members WHERE id = ?)`
	insert.Args = append(insert.Args, string(e.Member))
	rs, err := s.write.Run(ctx, Tx{Confirm: true, Statements: []Statement{
		insert, query(`SELECT 1 FROM ledger WHERE entry_key = ?`, e.Key),
	}})
	if err != nil {
		return services.Wrap(op, err)
	}
	if len(rs[1].Rows) == 0 {
		return &services.Error{Op: op, Kind: services.NotFound, Msg: "no member " + string(e.Member)}
	}
	return nil
}

// Ledger implements DB.
func (s *store) Ledger(ctx context.Context, id services.MemberID) ([]Entry, error) {
	var all []Entry
	at, key := int64(-1<<63), ""
	for {
		rows, err := s.query(ctx, "sqldb.Ledger", query(`SELECT `+entryColumns+` FROM ledger
			WHERE member = ? AND (at_us > ? OR (at_us = ? AND entry_key > ?)) ORDER BY at_us, entry_key LIMIT ?`,
			string(id), at, at, key, int64(pageRows)))
		page, err := scanAll(rows, err, scanEntry)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < pageRows {
			return all, nil
		}
		last := page[len(page)-1]
		at, key = micros(last.At), last.Key
	}
}

// Entry implements DB.
func (s *store) Entry(ctx context.Context, key string) (Entry, error) {
	op := "sqldb.Entry " + key
	rows, err := s.query(ctx, op, query(`SELECT `+entryColumns+` FROM ledger WHERE entry_key = ?`, key))
	return scanOne(op, rows, err, scanEntry)
}

func (s *store) query(ctx context.Context, op string, q Statement) ([][]any, error) {
	rs, err := s.read.Run(ctx, Tx{Statements: []Statement{q}})
	if err != nil {
		return nil, services.Wrap(op, err)
	}
	return rs[0].Rows, nil
}

func (s *store) exec(ctx context.Context, op string, e Statement) error {
	_, err := s.write.Run(ctx, Tx{Statements: []Statement{e}})
	return services.Wrap(op, err)
}
