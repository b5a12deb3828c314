// Package sqldbtest is the contract of sqldb.DB: every adapter passes Run in
// its own tests.
package sqldbtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb"
)

// Run checks a database against the contract. open returns a client of a
// running primary; each call may return the same one.
func Run(t *testing.T, open func(t testing.TB) sqldb.DB) {
	cases := []struct {
		name string
		test func(t *testing.T, db sqldb.DB)
	}{
		{"plans", plans},
		{"member by id and address", member},
		{"what is missing is not found", missing},
		{"create member is idempotent by entry key", createTwice},
		{"an address belongs to one member", addressTaken},
		{"an id belongs to one member", idTaken},
		{"a failed creation leaves nothing", atomic},
		{"one of many concurrent creations wins", concurrentCreate},
		{"the same creation many times at once", concurrentSame},
		{"a change of plan is idempotent by entry key", planChange},
		{"one of many concurrent changes of plan wins", concurrentPlanChanges},
		{"titles", titles},
		{"titles beyond a page, by name", manyTitles},
		{"put title replaces", replaceTitle},
		{"ledger is idempotent by key", ledger},
		{"ledger order", ledgerOrder},
		{"wrong requests are invalid", invalid},
		{"ended context is unavailable", cancelled},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func ctx(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(t.Context(), time.Minute) // only a hang takes as long
	t.Cleanup(cancel)
	return c
}

func unique(prefix string) string { return prefix + "-" + strings.ToLower(rand.Text()) }

func wantKind(t testing.TB, err error, want services.Kind) {
	t.Helper()
	if err == nil || services.KindOf(err) != want {
		t.Errorf("error is %v, want kind %s", err, want)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// NewMember returns a member and its first entry that nobody else has.
func NewMember() (sqldb.Member, sqldb.Entry) {
	id := unique("m")
	m := sqldb.Member{
		ID: services.MemberID(id), Email: id + "@example.test", Name: "Ada Ünal", Plan: "standard", Country: "US",
		PasswordHash: "salt$hash", Created: time.UnixMicro(1_700_000_000_123_456).UTC(),
	}
	return m, sqldb.Entry{Key: unique("signup"), Member: m.ID, Kind: "trial", Cents: 0, At: m.Created}
}

func plans(t *testing.T, db sqldb.DB) {
	p := sqldb.Plan{ID: unique("p"), Name: "Standard", MaxHeight: 1080, MaxStreams: 2, Devices: []string{"tv", "phone"}, PriceCents: 1299}
	for _, cents := range []int{999, 1299} {
		p.PriceCents = cents
		must(t, db.PutPlan(ctx(t), p))
	}
	all, err := db.Plans(ctx(t))
	must(t, err)
	i := slices.IndexFunc(all, func(q sqldb.Plan) bool { return q.ID == p.ID })
	if i < 0 {
		t.Fatalf("plan %s is missing in %v", p.ID, all)
	}
	if d := cmp.Diff(p, all[i]); d != "" {
		t.Error(d)
	}
	if !slices.IsSortedFunc(all, func(a, b sqldb.Plan) int { return a.PriceCents - b.PriceCents }) {
		t.Errorf("plans are not in order of price: %v", all)
	}
}

func member(t *testing.T, db sqldb.DB) {
	m, e := NewMember()
	got, err := db.CreateMember(ctx(t), m, e)
	must(t, err)
	if d := cmp.Diff(m, got); d != "" {
		t.Error(d)
	}
	got, err = db.Member(ctx(t), m.ID)
	must(t, err)
	if d := cmp.Diff(m, got); d != "" {
		t.Error(d)
	}
	got, err = db.MemberByEmail(ctx(t), " "+strings.ToUpper(m.Email))
	must(t, err)
	if d := cmp.Diff(m, got); d != "" {
		t.Error(d)
	}
}

func planChange(t *testing.T, db sqldb.DB) {
	m, e := NewMember()
	_, err := db.CreateMember(ctx(t), m, e)
	must(t, err)
	other, oe := NewMember()
	_, err = db.CreateMember(ctx(t), other, oe)
	must(t, err)
	change := sqldb.PlanChange{Member: m.ID, From: m.Plan, To: "premium", Entry: sqldb.Entry{Key: unique("plan"), Kind: "charge", Cents: 300, At: m.Created.Add(time.Hour)}}
	for range 2 {
		got, done, err := db.ChangePlan(ctx(t), change)
		must(t, err)
		if got.Plan != "premium" || got.ID != m.ID || !done {
			t.Errorf("after the change: %+v, %v", got, done)
		}
	}
	back := change
	back.From, back.To, back.Entry.Key, back.Entry.Kind = "premium", m.Plan, unique("plan"), "credit"
	if got, done, err := db.ChangePlan(ctx(t), back); err != nil || got.Plan != m.Plan || !done {
		t.Errorf("back: %+v, %v, %v", got, done, err)
	}
	// An old key does nothing, and says what is.
	if got, done, err := db.ChangePlan(ctx(t), change); err != nil || got.Plan != m.Plan || !done {
		t.Errorf("the first key again: %+v, %v, %v", got, done, err)
	}
	// Neither does a change from a plan that is over, and its key is not used up.
	late := change
	late.From, late.To, late.Entry.Key = "premium", "lab", unique("plan")
	if got, done, err := db.ChangePlan(ctx(t), late); err != nil || got.Plan != m.Plan || done {
		t.Errorf("from a plan that is over: %+v, %v, %v", got, done, err)
	}
	l, err := db.Ledger(ctx(t), m.ID)
	must(t, err)
	if len(l) != 3 || l[1].Cents != 300 || l[1].Member != m.ID {
		t.Errorf("ledger %+v", l)
	}
	late.From = m.Plan
	if got, done, err := db.ChangePlan(ctx(t), late); err != nil || got.Plan != "lab" || !done {
		t.Errorf("from the plan that is: %+v, %v, %v", got, done, err)
	}
	others := change
	others.Member = other.ID
	_, _, err = db.ChangePlan(ctx(t), others)
	wantKind(t, err, services.Conflict)
	if got, err := db.Member(ctx(t), other.ID); err != nil || got.Plan != other.Plan {
		t.Errorf("another member's key changed the plan: %+v, %v", got, err)
	}
	nobody := change
	nobody.Member, nobody.Entry.Key = "nobody", unique("plan")
	_, _, err = db.ChangePlan(ctx(t), nobody)
	wantKind(t, err, services.NotFound)
	change.To = ""
	_, _, err = db.ChangePlan(ctx(t), change)
	wantKind(t, err, services.Invalid)
}

// Of many changes from one plan a single one is made, and the others change
// neither plan nor ledger.
func concurrentPlanChanges(t *testing.T, db sqldb.DB) {
	m, e := NewMember()
	_, err := db.CreateMember(ctx(t), m, e)
	must(t, err)
	var made [8]bool
	var wg sync.WaitGroup
	c := ctx(t)
	for i := range made {
		wg.Go(func() {
			to := []string{"premium", "lab"}[i%2]
			_, done, err := db.ChangePlan(c, sqldb.PlanChange{Member: m.ID, From: m.Plan, To: to, Entry: sqldb.Entry{Key: unique("plan"), Kind: "charge", Cents: 100, At: m.Created.Add(time.Hour)}})
			if err != nil {
				t.Error(err)
			}
			made[i] = done
		})
	}
	wg.Wait()
	if l, err := db.Ledger(ctx(t), m.ID); err != nil || len(l) != 2 {
		t.Errorf("ledger %v, %v; want one entry beside the first", l, err)
	}
	if n := len(slices.DeleteFunc(made[:], func(done bool) bool { return !done })); n != 1 {
		t.Errorf("%d changes were made", n)
	}
}

func missing(t *testing.T, db sqldb.DB) {
	_, err := db.Member(ctx(t), "nobody")
	wantKind(t, err, services.NotFound)
	_, err = db.MemberByEmail(ctx(t), "nobody@example.test")
	wantKind(t, err, services.NotFound)
	_, err = db.Title(ctx(t), "tt-nothing")
	wantKind(t, err, services.NotFound)
	wantKind(t, db.AppendEntry(ctx(t), sqldb.Entry{Key: unique("k"), Member: "nobody", Kind: "charge"}), services.NotFound)
	if l, err := db.Ledger(ctx(t), "nobody"); err != nil || len(l) != 0 {
		t.Errorf("Ledger of nobody = %v, %v", l, err)
	}
	_, err = db.Entry(ctx(t), unique("k"))
	wantKind(t, err, services.NotFound)
}

func createTwice(t *testing.T, db sqldb.DB) {
	m, e := NewMember()
	_, err := db.CreateMember(ctx(t), m, e)
	must(t, err)
	again := m
	again.ID, again.Name, again.Email = services.MemberID(unique("m")), "Other", unique("other")+"@example.test"
	got, err := db.CreateMember(ctx(t), again, e)
	must(t, err)
	if d := cmp.Diff(m, got); d != "" {
		t.Errorf("the second call changed the member: %s", d)
	}
	l, err := db.Ledger(ctx(t), m.ID)
	must(t, err)
	if d := cmp.Diff([]sqldb.Entry{e}, l); d != "" {
		t.Error(d)
	}
	one, err := db.Entry(ctx(t), e.Key)
	must(t, err)
	if d := cmp.Diff(e, one); d != "" {
		t.Error(d)
	}
	_, err = db.Member(ctx(t), again.ID)
	wantKind(t, err, services.NotFound)
}

func addressTaken(t *testing.T, db sqldb.DB) {
	m, e := NewMember()
	_, err := db.CreateMember(ctx(t), m, e)
	must(t, err)
	other, oe := NewMember()
	other.Email = strings.ToUpper(m.Email)
	_, err = db.CreateMember(ctx(t), other, oe)
	wantKind(t, err, services.Conflict)
}

func idTaken(t *testing.T, db sqldb.DB) {
	m, e := NewMember()
	_, err := db.CreateMember(ctx(t), m, e)
	must(t, err)
	_, oe := NewMember()
	m.Email = unique("x") + "@example.test"
	_, err = db.CreateMember(ctx(t), m, oe)
	wantKind(t, err, services.Conflict)
}

func atomic(t *testing.T, db sqldb.DB) {
	m, e := NewMember()
	_, err := db.CreateMember(ctx(t), m, e)
	must(t, err)
	other, oe := NewMember()
	other.Email = m.Email
	_, err = db.CreateMember(ctx(t), other, oe)
	wantKind(t, err, services.Conflict)
	if l, err := db.Ledger(ctx(t), other.ID); err != nil || len(l) != 0 {
		t.Errorf("Ledger of a member that was not created = %v, %v", l, err)
	}
	other.Email = unique("y") + "@example.test"
	if _, err = db.CreateMember(ctx(t), other, oe); err != nil {
		t.Errorf("the key of a failed creation is used up: %v", err)
	}
}

func concurrentCreate(t *testing.T, db sqldb.DB) {
	const n = 8
	email := unique("race") + "@example.test"
	errs := make([]error, n)
	var wg sync.WaitGroup
	c := ctx(t)
	for i := range n {
		wg.Go(func() {
			m, e := NewMember()
			m.Email = email
			_, errs[i] = db.CreateMember(c, m, e)
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		wantKind(t, err, services.Conflict)
	}
	if won != 1 {
		t.Errorf("%d of %d creations with one address succeeded", won, n)
	}
}

func concurrentSame(t *testing.T, db sqldb.DB) {
	m, e := NewMember()
	var wg sync.WaitGroup
	c := ctx(t)
	for range 8 {
		wg.Go(func() {
			if got, err := db.CreateMember(c, m, e); err != nil || got.ID != m.ID {
				t.Errorf("CreateMember = %v, %v", got, err)
			}
		})
	}
	wg.Wait()
	if l, err := db.Ledger(ctx(t), m.ID); err != nil || len(l) != 1 {
		t.Errorf("Ledger = %v, %v; want one entry", l, err)
	}
}

func newTitle() sqldb.Title {
	return sqldb.Title{
		ID: services.TitleID(unique("tt")), Name: "Harbor Lights", Synopsis: "Ships; and 'quotes'.", Genres: []string{"drama"}, Poster: "/\\\n",
		Duration: 32500 * time.Millisecond, Rungs: []sqldb.Rung{{ID: "v0", Kbps: 300, Width: 426, Height: 240}, {ID: "v1", Kbps: 900, Width: 854, Height: 480}},
		Countries: []string{"US", "GB"}, Live: true, Year: 2024,
		Available: time.Date(2030, 12, 24, 18, 0, 0, 0, time.UTC), MinSites: 3,
	}
}

func titles(t *testing.T, db sqldb.DB) {
	full, bare := newTitle(), sqldb.Title{ID: services.TitleID(unique("tt")), Name: "Bare"}
	for _, want := range []sqldb.Title{full, bare} {
		must(t, db.PutTitle(ctx(t), want))
		got, err := db.Title(ctx(t), want.ID)
		must(t, err)
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			t.Error(d)
		}
	}
}

func manyTitles(t *testing.T, db sqldb.DB) {
	const n = 520
	want := map[services.TitleID]bool{}
	c := ctx(t)
	var wg sync.WaitGroup
	for i := range 8 {
		var mine []sqldb.Title
		for k := i; k < n; k += 8 {
			x := sqldb.Title{ID: services.TitleID(unique("tt")), Name: fmt.Sprintf("Many %03d", k/3)}
			want[x.ID] = true
			mine = append(mine, x)
		}
		wg.Go(func() {
			for _, x := range mine {
				if err := db.PutTitle(c, x); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	all, err := db.Titles(c)
	must(t, err)
	if !slices.IsSortedFunc(all, func(a, b sqldb.Title) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("titles are not in order of name")
	}
	seen := map[services.TitleID]bool{}
	for _, x := range all {
		if seen[x.ID] {
			t.Errorf("%s is listed twice", x.ID)
		}
		seen[x.ID] = true
		delete(want, x.ID)
	}
	if len(want) > 0 {
		t.Errorf("%d titles are not listed", len(want))
	}
}

func replaceTitle(t *testing.T, db sqldb.DB) {
	x := newTitle()
	must(t, db.PutTitle(ctx(t), x))
	x.Live, x.Countries = false, nil
	for range 2 {
		must(t, db.PutTitle(ctx(t), x))
	}
	got, err := db.Title(ctx(t), x.ID)
	must(t, err)
	if got.Live || len(got.Countries) != 0 {
		t.Errorf("Title = %+v, want it replaced", got)
	}
}

func ledger(t *testing.T, db sqldb.DB) {
	m, first := NewMember()
	_, err := db.CreateMember(ctx(t), m, first)
	must(t, err)
	e := sqldb.Entry{Key: unique("charge"), Member: m.ID, Kind: "charge", Cents: 1299, At: m.Created.Add(time.Hour)}
	for i := range 3 {
		again := e
		again.Cents += i // the first one counts
		must(t, db.AppendEntry(ctx(t), again))
	}
	l, err := db.Ledger(ctx(t), m.ID)
	must(t, err)
	if d := cmp.Diff([]sqldb.Entry{first, e}, l); d != "" {
		t.Error(d)
	}
}

func ledgerOrder(t *testing.T, db sqldb.DB) {
	m, first := NewMember()
	_, err := db.CreateMember(ctx(t), m, first)
	must(t, err)
	for _, hours := range []int{3, 1, 2} {
		must(t, db.AppendEntry(ctx(t), sqldb.Entry{Key: unique("k"), Member: m.ID, Kind: "charge", Cents: hours, At: m.Created.Add(time.Duration(hours) * time.Hour)}))
	}
	l, err := db.Ledger(ctx(t), m.ID)
	must(t, err)
	for i, e := range l {
		if e.Cents != i {
			t.Errorf("entry %d has %d cents: not in order of time", i, e.Cents)
		}
	}
}

func invalid(t *testing.T, db sqldb.DB) {
	wantKind(t, db.PutPlan(ctx(t), sqldb.Plan{}), services.Invalid)
	wantKind(t, db.PutTitle(ctx(t), sqldb.Title{}), services.Invalid)
	m, e := NewMember()
	_, err := db.CreateMember(ctx(t), m, sqldb.Entry{})
	wantKind(t, err, services.Invalid)
	m.Email = " "
	_, err = db.CreateMember(ctx(t), m, e)
	wantKind(t, err, services.Invalid)
	wantKind(t, db.AppendEntry(ctx(t), sqldb.Entry{Member: m.ID}), services.Invalid)
}

func cancelled(t *testing.T, db sqldb.DB) {
	c, cancel := context.WithCancel(ctx(t))
	cancel()
	_, err := db.Member(c, "nobody")
	wantKind(t, err, services.Unavailable)
	wantKind(t, db.PutPlan(c, sqldb.Plan{ID: "x"}), services.Unavailable)
}
