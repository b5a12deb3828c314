package embedded_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/services/sqldb/sqldbtest"
)

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not in %v: %s", patience, what)
		}
	}
}

func (n *node) putTitle(id string) error {
	return n.db.PutTitle(n.w.t.Context(), sqldb.Title{ID: services.TitleID(id), Name: id})
}

func (n *node) mustPut(ids ...string) {
	n.w.t.Helper()
	for _, id := range ids {
		if err := n.putTitle(id); err != nil {
			n.w.t.Fatalf("%s: PutTitle %s: %v", n.region, id, err)
		}
	}
}

func (n *node) titles() []string {
	n.w.t.Helper()
	all, err := n.db.Titles(n.w.t.Context())
	if err != nil {
		n.w.t.Fatalf("%s: Titles: %v", n.region, err)
	}
	ids := make([]string, len(all))
	for i, x := range all {
		ids[i] = string(x.ID)
	}
	return ids
}

func (n *node) holds(ids ...string) {
	n.w.t.Helper()
	eventually(n.w.t, fmt.Sprintf("%s holds %v", n.region, ids), func() bool { return cmp.Equal(n.titles(), ids) })
}

func (n *node) primary() bool {
	p, err := n.admin.Primary(n.w.t.Context())
	if err != nil {
		n.w.t.Fatalf("%s: Primary: %v", n.region, err)
	}
	return p
}

func (n *node) position() uint64 {
	p, err := n.admin.Position(n.w.t.Context())
	if err != nil {
		n.w.t.Fatalf("%s: Position: %v", n.region, err)
	}
	return p
}

func (n *node) metric(name string) float64 {
	n.w.t.Helper()
	families, err := n.tel.Metrics.Gather()
	if err != nil {
		n.w.t.Fatal(err)
	}
	v := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			v += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return v
}

func (n *node) confirmedBy(how string) float64 {
	n.w.t.Helper()
	families, err := n.tel.Metrics.Gather()
	if err != nil {
		n.w.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "sql_confirms_total" && m.GetLabel()[0].GetValue() == how {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func TestReplicaFollowsAndForwards(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.start("us-east", true), w.start("us-west", false), w.start("eu-west", false)
	if got := b.titles(); len(got) != 0 {
		t.Errorf("a fresh replica has %v", got)
	}
	a.mustPut("t1")
	b.mustPut("t2") // handed on to a
	for _, n := range []*node{a, b, c} {
		n.holds("t1", "t2")
	}
	if !a.primary() || b.primary() || c.primary() {
		t.Error("not exactly us-east is primary")
	}
	m, e := sqldbtest.NewMember()
	if _, err := b.db.CreateMember(t.Context(), m, e); err != nil {
		t.Fatal(err)
	}
	if a.confirmedBy("replica") != 1 {
		t.Error("the ledger entry was acknowledged without a second region")
	}
	eventually(t, "the member is everywhere", func() bool { _, err := c.db.Member(t.Context(), m.ID); return err == nil })
	other, oe := sqldbtest.NewMember()
	other.Email = m.Email
	if _, err := c.db.CreateMember(t.Context(), other, oe); services.KindOf(err) != services.Conflict {
		t.Errorf("a taken address through a replica: %v, want Conflict", err)
	}
	if err := c.db.AppendEntry(t.Context(), sqldb.Entry{Key: "x", Member: "nobody"}); services.KindOf(err) != services.NotFound {
		t.Errorf("an entry of nobody through a replica: %v, want NotFound", err)
	}
}

func TestConcurrentCreationAcrossRegions(t *testing.T) {
	w := newWorld(t)
	nodes := []*node{w.start("us-east", true), w.start("us-west", false), w.start("eu-west", false)}
	email := "race@example.test"
	var wg sync.WaitGroup
	errs := make([]error, 6)
	for i := range errs {
		wg.Go(func() {
			m, e := sqldbtest.NewMember()
			m.Email = email
			_, errs[i] = nodes[i%3].db.CreateMember(t.Context(), m, e)
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case services.KindOf(err) != services.Conflict:
			t.Errorf("CreateMember: %v", err)
		}
	}
	if won != 1 {
		t.Errorf("%d creations with one address succeeded", won)
	}
}

func TestNewReplicaPlaysTheWholeLog(t *testing.T) {
	w := newWorld(t)
	a := w.start("us-east", true)
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprintf("t%03d", i))
	}
	a.mustPut(want...)
	b := w.start("us-west", false)
	b.holds(want...)
	if a.position() != b.position() {
		t.Errorf("positions %d and %d", a.position(), b.position())
	}
}

func TestRestarts(t *testing.T) {
	w := newWorld(t)
	a, b := w.start("us-east", true), w.start("us-west", false)
	a.mustPut("t1")
	b.holds("t1")
	b.close()
	a.mustPut("t2")
	a.close()
	b = w.startIn("us-west", b.dir, false)
	b.holds("t1")                          // readable without a primary
	a = w.startIn("us-east", a.dir, false) // what is persisted counts, not what is declared
	b.holds("t1", "t2")
	if !a.primary() {
		t.Error("the primary forgot that it is one")
	}
	a.mustPut("t3")
	b.holds("t1", "t2", "t3")
	eventually(t, "2 change sets are counted as applied after the restart", func() bool { return b.metric("sql_applied_total") == 2 })
}

func TestPlannedPromotion(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.start("us-east", true), w.start("us-west", false), w.start("eu-west", false)
	a.mustPut("t1")
	pos, err := a.admin.Fence(t.Context())
	if err != nil || pos != 1 {
		t.Fatalf("Fence = %d, %v", pos, err)
	}
	if again, err := a.admin.Fence(t.Context()); err != nil || again != pos {
		t.Errorf("Fence again = %d, %v", again, err)
	}
	if a.primary() {
		t.Error("a fenced primary says it takes writes")
	}
	// A write during the promotion waits for it.
	done := make(chan error, 1)
	go func() { done <- c.putTitle("t2") }()
	if err := b.admin.Promote(t.Context(), pos); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("a write during the promotion: %v", err)
	}
	if err := b.admin.Promote(t.Context(), pos); err != nil {
		t.Errorf("Promote again: %v", err)
	}
	a.mustPut("t3") // the old primary hands on
	for _, n := range []*node{a, b, c} {
		n.holds("t1", "t2", "t3")
	}
	if a.primary() || !b.primary() || c.primary() {
		t.Error("not exactly us-west is primary")
	}
	if d := a.metric("sql_diverged_changesets"); d != 0 {
		t.Errorf("a planned promotion left %v change sets behind", d)
	}
	// And back.
	if pos, err = b.admin.Fence(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := a.admin.Promote(t.Context(), pos); err != nil {
		t.Fatal(err)
	}
	c.mustPut("t4")
	for _, n := range []*node{a, b, c} {
		n.holds("t1", "t2", "t3", "t4")
	}
}

func TestPromoteWaitsForThePosition(t *testing.T) {
	w := newWorld(t)
	a, b := w.start("us-east", true), w.start("us-west", false)
	a.mustPut("t1")
	b.holds("t1")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := b.admin.Promote(ctx, 2); services.KindOf(err) != services.Unavailable {
		t.Errorf("Promote beyond what is there: %v, want Unavailable", err)
	}
	if b.primary() {
		t.Fatal("promoted without the position")
	}
	promoted := make(chan error, 1)
	go func() { promoted <- b.admin.Promote(t.Context(), 2) }()
	a.mustPut("t2")
	if err := <-promoted; err != nil {
		t.Fatal(err)
	}
	if _, err := a.admin.Fence(t.Context()); err == nil {
		eventually(t, "the old primary learns of it", func() bool { return !a.primary() })
	}
	if err := b.admin.Promote(t.Context(), 99); services.KindOf(err) != services.Conflict {
		t.Errorf("Promote of the primary beyond itself: %v, want Conflict", err)
	}
}

func TestFenceOfAReplicaIsRefused(t *testing.T) {
	w := newWorld(t)
	w.start("us-east", true)
	b := w.start("us-west", false)
	if _, err := b.admin.Fence(t.Context()); services.ReasonOf(err) != "not_primary" {
		t.Errorf("Fence of a replica: %v", err)
	}
}

func TestFencedPrimaryCanBePromotedAgain(t *testing.T) {
	w := newWorld(t)
	w.impatient()
	a := w.start("us-east", true)
	a.mustPut("t1")
	pos, err := a.admin.Fence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if fenced, err := a.admin.Fenced(t.Context()); err != nil || !fenced {
		t.Errorf("Fenced = %v, %v", fenced, err)
	}
	a.close()
	a = w.startIn("us-east", a.dir, true) // the fence outlives a restart
	err = a.putTitle("t2")
	if services.KindOf(err) != services.Unavailable {
		t.Errorf("a write on a fenced primary: %v, want Unavailable", err)
	}
	if err := a.admin.Promote(t.Context(), pos); err != nil {
		t.Fatal(err)
	}
	a.mustPut("t3")
	if fenced, err := a.admin.Fenced(t.Context()); err != nil || fenced {
		t.Errorf("once promoted, Fenced = %v, %v", fenced, err)
	}
}

// The primary is cut off with writes that nobody has, another is promoted, and
// the old one comes back.
func TestDivergedTailIsKeptAside(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.start("us-east", true), w.start("us-west", false), w.start("eu-west", false)
	a.mustPut("t1", "t2")
	b.holds("t1", "t2")
	c.holds("t1", "t2")
	w.partition("us-east", true)
	a.mustPut("lost1", "lost2", "t2") // t2 again: a change set of its own
	if err := b.admin.Promote(t.Context(), b.position()); err != nil {
		t.Fatal(err)
	}
	b.mustPut("t3")
	c.holds("t1", "t2", "t3")
	if got := a.titles(); len(got) != 4 {
		t.Errorf("the cut-off primary has %v", got)
	}
	w.partition("us-east", false)
	a.holds("t1", "t2", "t3")
	eventually(t, "the tail is counted", func() bool { return a.metric("sql_diverged_changesets") == 3 })
	if a.primary() {
		t.Error("the stale primary still is one")
	}
	a.mustPut("t4") // handed on
	for _, n := range []*node{a, b, c} {
		n.holds("t1", "t2", "t3", "t4")
	}
	// The same after a restart: nothing comes back.
	a.close()
	a = w.startIn("us-east", a.dir, true)
	a.holds("t1", "t2", "t3", "t4")
	eventually(t, "the tail is kept", func() bool { return a.metric("sql_diverged_changesets") == 3 })
}

// A replica that followed the old primary further than the new one moves its
// tail aside as well.
func TestReplicaAheadOfTheNewPrimary(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.start("us-east", true), w.start("us-west", false), w.start("eu-west", false)
	a.mustPut("t1")
	b.holds("t1")
	c.holds("t1")
	w.partition("us-west", true)
	a.mustPut("only-c")
	c.holds("only-c", "t1")
	a.close()
	w.partition("us-west", false)
	if err := b.admin.Promote(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	c.holds("t1")
	b.mustPut("t2")
	c.holds("t1", "t2")
	eventually(t, "one change set is aside", func() bool { return c.metric("sql_diverged_changesets") == 1 })
}

func TestWithoutPrimary(t *testing.T) {
	w := newWorld(t)
	w.impatient()
	b := w.start("us-west", false)
	err := b.db.PutPlan(t.Context(), sqldb.Plan{ID: "basic"})
	if services.KindOf(err) != services.Unavailable || services.ReasonOf(err) != "no_primary" {
		t.Errorf("a write without a primary: %v", err)
	}
}

// With no replica connected the ledger takes entries all the same.
func TestLedgerWithoutReplica(t *testing.T) {
	w := newWorld(t)
	a := w.start("us-east", true)
	m, e := sqldbtest.NewMember()
	if _, err := a.db.CreateMember(t.Context(), m, e); err != nil {
		t.Fatal(err)
	}
	if a.confirmedBy("alone") != 1 {
		t.Error("the write is not counted as acknowledged by the primary alone")
	}
}
