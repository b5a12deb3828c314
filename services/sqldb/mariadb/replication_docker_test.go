package mariadb_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/services/sqldb/mariadb"
	"github.com/flix-lab/flix/services/sqldb/sqldbpb"
	"github.com/flix-lab/flix/services/sqldb/sqldbtest"
	"github.com/flix-lab/flix/services/telemetry"
)

// TestReplicaSet is the life of one set of three servers; each part begins
// where the one before it ended.
func TestReplicaSet(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.add("us-east"), w.add("us-west"), w.add("eu-west")
	s := &set{t: t, w: w, all: []*node{a, b, c}}
	for _, n := range s.all {
		eventually(t, n.region+" plays its part", func() bool { return n.leads() == (n == a) && n.plays() })
	}
	parts := []struct {
		name string
		part func(t *testing.T)
	}{
		{"replicas follow, and clients write to the primary from everywhere", func(t *testing.T) { s.follow(t, a, b, c) }},
		{"a planned promotion loses and fails nothing", func(t *testing.T) { s.planned(t, a, b, c) }},
		{"a primary that is killed and started again goes on", func(t *testing.T) { s.restarted(t, b, c) }},
		{"a killed primary takes no acknowledged write with it", func(t *testing.T) { s.killed(t, b, c, a) }},
		{"a stray transaction is found, and kept out", func(t *testing.T) { s.stray(t, c, a) }},
		{"a promotion takes over what another replica has", func(t *testing.T) { s.behind(t, c, a, b) }},
		{"a promotion fences a primary in reach", func(t *testing.T) { s.unfenced(t, a, c, b) }},
		{"a primary that comes back with writes of its own is kept out", func(t *testing.T) { s.cutOff(t, c, a, b) }},
		{"a write that no replica confirms is not acknowledged", func(t *testing.T) { s.unconfirmed(t, a, b, c) }},
	}
	for _, p := range parts {
		if !t.Run(p.name, p.part) {
			t.FailNow() // the next one would begin elsewhere
		}
	}
}

type set struct {
	t   *testing.T
	w   *world
	all []*node
}

// plays says whether a server leads, or follows what leads.
func (n *node) plays() bool { return n.metric("sql_primary") == 1 || n.metric("sql_replicating") == 1 }

func (s *set) equal(t *testing.T) {
	t.Helper()
	eventually(t, "all servers have the same history", func() bool {
		want := s.all[0].position()
		for _, n := range s.all[1:] {
			if n.position() != want {
				return false
			}
		}
		return true
	})
	sum := "CHECKSUM TABLE flix.members, flix.titles, flix.ledger, flix.plans, flix_keeper.promotions"
	want := s.all[0].server.sql(t, sum)
	for _, n := range s.all[1:] {
		if got := n.server.sql(t, sum); got != want {
			t.Errorf("%s has other tables than %s:\n%s\nwant\n%s", n.region, s.all[0].region, got, want)
		}
	}
}

func (s *set) follow(t *testing.T, a, b, c *node) {
	a.mustPut("t1")
	b.mustPut("t2")
	for _, n := range s.all {
		n.holds("t1", "t2")
	}
	m, e := sqldbtest.NewMember()
	if _, err := b.db.CreateMember(t.Context(), m, e); err != nil {
		t.Fatal(err)
	}
	if b.metric("sql_confirms_total", "replica") != 1 {
		t.Error("the member was acknowledged without a second region")
	}
	start := time.Now()
	const some = 50
	for range some {
		m, e := sqldbtest.NewMember()
		if _, err := c.db.CreateMember(t.Context(), m, e); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("a creation that a replica confirms takes %v", (time.Since(start) / some).Round(10*time.Microsecond))
	eventually(t, "the member is everywhere", func() bool { _, err := c.db.Member(t.Context(), m.ID); return err == nil })
	other, oe := sqldbtest.NewMember()
	other.Email = m.Email
	if _, err := c.db.CreateMember(t.Context(), other, oe); services.KindOf(err) != services.Conflict {
		t.Errorf("a taken address from another region: %v, want Conflict", err)
	}
	email := "race@example.test"
	var won atomic.Int64
	var wg sync.WaitGroup
	for i := range 9 {
		wg.Go(func() {
			m, e := sqldbtest.NewMember()
			m.Email = email
			switch _, err := s.all[i%3].db.CreateMember(t.Context(), m, e); {
			case err == nil:
				won.Add(1)
			case services.KindOf(err) != services.Conflict:
				t.Errorf("CreateMember: %v", err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d creations with one address succeeded", won.Load())
	}
	if _, err := b.fence(); services.ReasonOf(err) != mariadb.ReasonNotPrimary {
		t.Errorf("Fence of a replica: %v", err)
	}
	s.equal(t)
	eventually(t, "the metrics tell who is who", func() bool {
		return a.metric("sql_semi_sync") == 1 && a.metric("sql_semi_sync_replicas") == 2 && b.metric("sql_primary") == 0 && b.metric("sql_epoch") == 1
	})
}

func (s *set) planned(t *testing.T, a, b, c *node) {
	pos, err := a.fence()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := a.fence(); err != nil || again != pos {
		t.Errorf("Fence again = %d, %v, want %d", again, err, pos)
	}
	if a.leads() {
		t.Error("a fenced primary says it takes writes")
	}
	// The fence outlives the server.
	a.server.kill(t)
	a.server.restart(t)
	eventually(t, "the fenced server answers", func() bool { _, err := a.state(); return err == nil })
	if st, err := a.state(); err != nil || !st.GetFenced() || st.GetPosition() != pos {
		t.Errorf("after a restart: %v, %v, want it fenced at %d", st, err, pos)
	}
	done := make(chan error, 1)
	start := time.Now()
	go func() { done <- c.putTitle("t3") }()
	if err := b.promote(pos); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("a write during the promotion: %v", err)
	}
	t.Logf("promoted, and a waiting write done, in %v", time.Since(start).Round(time.Millisecond))
	if err := b.promote(pos); err != nil {
		t.Errorf("Promote again: %v", err)
	}
	if err := b.promote(pos + 1000); services.KindOf(err) != services.Conflict {
		t.Errorf("Promote of the primary beyond itself: %v, want Conflict", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := promoteWithin(ctx, c, pos+1000); services.KindOf(err) != services.Unavailable {
		t.Errorf("Promote beyond what there is: %v, want Unavailable", err)
	}
	a.mustPut("t4")
	for _, n := range s.all {
		n.holds("t1", "t2", "t3", "t4")
	}
	s.equal(t)
	if a.leads() || !b.leads() || c.leads() {
		t.Error("not exactly us-west is primary")
	}
	if d := a.metric("sql_diverged_changesets"); d != 0 {
		t.Errorf("a planned promotion left %v transactions behind", d)
	}
}

func (s *set) restarted(t *testing.T, b, c *node) {
	acked := s.writeUntilKilled(t, c, b)
	b.server.restart(t)
	start := time.Now()
	eventually(t, "the primary takes writes again", b.leads)
	t.Logf("a killed primary took writes %v after its start", time.Since(start).Round(time.Millisecond))
	c.mustPut("t5")
	s.haveAll(t, acked)
	s.equal(t)
}

func (s *set) killed(t *testing.T, b, c, a *node) {
	acked := s.writeUntilKilled(t, a, b)
	start := time.Now()
	if err := c.promote(0); err != nil {
		t.Fatal(err)
	}
	a.mustPut("t6")
	t.Logf("promoted and writing %v after the loss", time.Since(start).Round(time.Millisecond))
	s.have(t, c, acked)
	s.have(t, a, acked)
	// It may have begun writes that nobody was told of.
	b.end()
	b.rebuild = true
	b.keep()
	b.server.restart(t)
	eventually(t, "the old primary follows", func() bool { return b.metric("sql_replicating") == 1 && !b.leads() })
	t.Logf("the old primary had %v transactions that nobody took over", b.metric("sql_diverged_changesets"))
	s.haveAll(t, acked)
	s.equal(t)
}

func (s *set) stray(t *testing.T, c, a *node) {
	a.server.sql(t, "REPLACE INTO flix.plans VALUES ('stray', '', 1, 1, '[]', 1)")
	eventually(t, "the server does not follow any more", func() bool { return a.metric("sql_replicating") == 0 })
	c.mustPut("t7")
	if have, err := a.titles(); err != nil || slices.Contains(have, "t7") {
		t.Errorf("a server with a stray transaction: %d titles with t7, %v", len(have), err)
	}
	if a.leads() {
		t.Error("a server with a stray transaction leads")
	}
	a.end()
	a.rebuild = true
	a.keep()
	eventually(t, "the rebuilt server follows", func() bool { return a.metric("sql_replicating") == 1 })
	s.equal(t)
	if n := a.metric("sql_diverged_changesets"); n != 1 {
		t.Errorf("%v transactions aside, want 1", n)
	}
	if out := a.server.sql(t, "SHOW DATABASES LIKE 'flix\\_diverged%'"); !strings.HasPrefix(out, "flix_diverged_") {
		t.Errorf("the stray tables are not kept: %q", out)
	}
}

func (s *set) unconfirmed(t *testing.T, c, a, b *node) {
	late := c.metric("sql_confirms_total", "late")
	a.server.pause(t)
	b.server.pause(t)
	m, e := sqldbtest.NewMember()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := c.db.CreateMember(ctx, m, e)
	if services.KindOf(err) != services.Unavailable || services.ReasonOf(err) != mariadb.ReasonUnconfirmed {
		t.Errorf("a write that no replica has: %v, want it unconfirmed", err)
	}
	// It is there by now, and still nobody else has it.
	_, err = c.db.CreateMember(ctx, m, e)
	if services.ReasonOf(err) != mariadb.ReasonUnconfirmed {
		t.Errorf("the same write again: %v, want it unconfirmed", err)
	}
	a.server.unpause(t)
	b.server.unpause(t)
	eventually(t, "the same write is confirmed", func() bool {
		got, err := c.db.CreateMember(t.Context(), m, e)
		return err == nil && got.ID == m.ID
	})
	if c.metric("sql_confirms_total", "late") < late+2 {
		t.Error("the unconfirmed writes are not counted")
	}
	s.equal(t)
}

// behind promotes a, which is behind b, after the loss of the primary c.
func (s *set) behind(t *testing.T, c, a, b *node) {
	a.end() // or it would follow again at once
	a.server.sql(t, "STOP SLAVE")
	var acked []sqldb.Entry
	for range 20 {
		m, e := sqldbtest.NewMember()
		if _, err := b.db.CreateMember(t.Context(), m, e); err != nil {
			t.Fatal(err)
		}
		acked = append(acked, e)
	}
	c.server.kill(t)
	a.keep()
	eventually(t, "the Keeper answers", func() bool { _, err := a.state(); return err == nil })
	if err := a.promote(0); err != nil {
		t.Fatal(err)
	}
	s.have(t, a, acked)
	c.server.restart(t)
	eventually(t, "the old primary follows", func() bool { return c.metric("sql_replicating") == 1 })
	s.haveAll(t, acked)
}

// unfenced promotes c while the primary a takes writes from b's clients.
func (s *set) unfenced(t *testing.T, a, c, b *node) {
	ctx, cancel := context.WithCancel(t.Context())
	acked := make(chan []sqldb.Entry)
	begun := make(chan struct{})
	go func() {
		var mine []sqldb.Entry
		for ctx.Err() == nil {
			m, e := sqldbtest.NewMember()
			if _, err := b.db.CreateMember(t.Context(), m, e); err != nil {
				t.Errorf("a write during the promotion: %v", err)
			}
			if mine = append(mine, e); len(mine) == 20 {
				close(begun)
			}
		}
		acked <- mine
	}()
	<-begun
	if err := c.promote(0); err != nil {
		t.Error(err)
	}
	eventually(t, "the old primary follows", func() bool { return a.metric("sql_replicating") == 1 })
	cancel()
	s.haveAll(t, <-acked)
	if n := a.metric("sql_diverged_changesets"); n != 1 {
		t.Errorf("the promotion left %v transactions behind", n-1)
	}
}

// cutOff lets the primary c write alone, loses it, promotes b, and brings c back.
func (s *set) cutOff(t *testing.T, c, a, b *node) {
	for _, n := range []*node{a, b} {
		n.end()
		n.server.sql(t, "STOP SLAVE")
	}
	eventually(t, "the primary is alone", func() bool { return c.metric("sql_semi_sync_replicas") == 0 })
	before := c.metric("sql_diverged_changesets")
	const n = 3
	for range n {
		m, e := sqldbtest.NewMember()
		if _, err := c.db.CreateMember(t.Context(), m, e); err != nil {
			t.Fatal(err)
		}
	}
	if got := c.metric("sql_confirms_total", "alone"); got != n {
		t.Errorf("%v writes are counted as acknowledged by the primary alone, want %d", got, n)
	}
	c.end()
	c.server.kill(t)
	a.keep()
	b.keep()
	eventually(t, "the Keeper answers", func() bool { _, err := a.state(); return err == nil })
	if err := a.promote(0); err != nil {
		t.Fatal(err)
	}
	b.mustPut("t8")
	c.rebuild = false
	c.keep()
	c.server.restart(t)
	eventually(t, "the old primary answers", func() bool { return c.metric("sql_up") == 1 })
	if c.leads() || c.metric("sql_replicating") == 1 {
		t.Error("a primary with writes of its own leads or follows")
	}
	eventually(t, "the strays are told", func() bool { return c.metric("sql_stray_transactions") == n })
	c.end()
	c.rebuild = true
	c.keep()
	eventually(t, "the rebuilt primary follows", func() bool { return c.metric("sql_replicating") == 1 })
	if got := c.metric("sql_diverged_changesets"); got != before+n {
		t.Errorf("%v transactions aside, want %v", got, before+n)
	}
	s.equal(t)
}

func promoteWithin(ctx context.Context, n *node, position uint64) error {
	_, err := n.admin.Promote(ctx, &sqldbpb.PromoteRequest{Position: position})
	return telemetry.FromStatus(err)
}

// writeUntilKilled writes ledger entries and members from several clients in
// one region and kills the primary in the midst of that. It returns the keys of
// those that were acknowledged.
func (s *set) writeUntilKilled(t *testing.T, from, primary *node) []sqldb.Entry {
	t.Helper()
	const writers = 4
	var total atomic.Int64
	results := make(chan []sqldb.Entry)
	var kill sync.Once
	for range writers {
		go func() {
			var mine []sqldb.Entry
			defer func() { results <- mine }()
			for {
				m, e := sqldbtest.NewMember()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // only a hang takes as long
				_, err := from.db.CreateMember(ctx, m, e)
				cancel()
				if err != nil {
					if services.KindOf(err) != services.Unavailable {
						t.Errorf("a write to a killed primary: %v, want Unavailable", err)
					}
					return
				}
				mine = append(mine, e)
				if total.Add(1) >= 200 {
					kill.Do(func() { primary.server.kill(t) })
				}
			}
		}()
	}
	var acked []sqldb.Entry
	for range writers {
		acked = append(acked, <-results...)
	}
	t.Logf("%d writes were acknowledged", len(acked))
	return acked
}

// have waits until a server has caught up and checks that it has all entries.
func (s *set) have(t *testing.T, n *node, entries []sqldb.Entry) {
	t.Helper()
	out := n.server.sql(t, "SELECT entry_key FROM flix.ledger")
	have := map[string]bool{}
	for key := range strings.SplitSeq(out, "\n") {
		have[key] = true
	}
	lost := 0
	for _, e := range entries {
		if !have[e.Key] {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%s has lost %d of %d acknowledged writes", n.region, lost, len(entries))
	}
}

func (s *set) haveAll(t *testing.T, entries []sqldb.Entry) {
	t.Helper()
	s.equal(t)
	for _, n := range s.all {
		s.have(t, n, entries)
	}
}
