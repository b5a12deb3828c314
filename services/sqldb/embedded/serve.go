package embedded

import (
	"context"
	"database/sql"
	"strconv"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb/sqldbpb"
)

// State implements sqldbpb.SQLServer.
func (s *Server) State(ctx context.Context, _ *sqldbpb.StateRequest) (*sqldbpb.StateReply, error) {
	st, _ := s.history.look()
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		if region := one(md, mdRegion); region != "" {
			s.followers.confirm(region, number(one(md, mdApplied)))
		}
		if number(one(md, mdEpoch)) > st.epoch {
			s.peers.refresh()
		}
	}
	return s.reply(st), nil
}

func (s *Server) reply(st state) *sqldbpb.StateReply {
	return &sqldbpb.StateReply{Primary: st.primary, Fenced: st.fenced, Position: st.position, Epoch: st.epoch, Region: s.cfg.Region}
}

func one(md metadata.MD, key string) string {
	if v := md.Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}

// number reads a decimal number; anything else is 0, which means no news.
func number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Fence implements sqldbpb.SQLServer. Taking the writer's turn, it comes after
// every write that was accepted.
func (s *Server) Fence(ctx context.Context, _ *sqldbpb.FenceRequest) (*sqldbpb.StateReply, error) {
	st, err := s.history.update(ctx, func(_ *sql.Tx, now *state) error {
		if !now.primary {
			return s.notPrimary()
		}
		now.fenced = true
		return nil
	})
	if err != nil {
		return nil, services.Wrap("sqldb.Fence", err)
	}
	s.cfg.Tel.Log.Info("fenced", "position", st.position, "epoch", st.epoch)
	return s.reply(st), nil
}

func (s *Server) notPrimary() error {
	return services.Errorf(services.Conflict, "the node of %s is a replica", s.cfg.Region).WithReason(ReasonNotPrimary)
}

// Promote implements sqldbpb.SQLServer.
func (s *Server) Promote(ctx context.Context, r *sqldbpb.PromoteRequest) (*sqldbpb.StateReply, error) {
	st, err := s.history.wait(ctx, func(st state) bool { return st.position >= r.GetPosition() || (st.primary && !st.fenced) })
	if err != nil {
		return nil, &services.Error{
			Op: "sqldb.Promote", Kind: services.Unavailable, Err: err,
			Msg:    "the node of " + s.cfg.Region + " has applied change set " + strconv.FormatUint(st.position, 10) + " of " + strconv.FormatUint(r.GetPosition(), 10),
			Remedy: "bring the old primary back into reach, or promote with the position that is here and lose what comes after it",
		}
	}
	st, err = s.history.update(ctx, func(tx *sql.Tx, now *state) error {
		switch {
		case now.position < r.GetPosition():
			return services.Errorf(services.Conflict, "the node of %s is primary at position %d: nobody can bring it to %d", s.cfg.Region, now.position, r.GetPosition())
		case now.primary && !now.fenced:
			return nil
		}
		now.primary, now.fenced = true, false
		now.epoch = max(now.epoch, s.peers.newestEpoch()) + 1
		// An epoch begins with a change set of its own, so that two histories
		// part where the epoch begins and not at the first write after it.
		return now.appendSet(tx, []*sqldbpb.Statement{{
			Sql: "SELECT ?", Query: true, Args: []*sqldbpb.Value{{V: &sqldbpb.Value_Text{Text: "promoted " + s.cfg.Region}}},
		}})
	})
	if err != nil {
		return nil, services.Wrap("sqldb.Promote", err)
	}
	s.cfg.Tel.Log.Info("promoted", "position", st.position, "epoch", st.epoch)
	s.peers.refresh() // which tells them
	return s.reply(st), nil
}

// followPage is how many change sets are read at once for a follower.
const followPage = 32

// Follow implements sqldbpb.SQLServer: the primary's log from a position on,
// then what is added to it.
func (s *Server) Follow(r *sqldbpb.FollowRequest, stream sqldbpb.SQL_FollowServer) error {
	leave := s.followers.join(r.GetRegion())
	defer leave()
	for after := r.GetAfter(); ; {
		st, changed := s.history.look()
		if !st.primary {
			return s.notPrimary()
		}
		if st.position <= after {
			select {
			case <-changed:
				continue
			case <-stream.Context().Done():
				return nil
			}
		}
		sets, err := s.history.setsAfter(stream.Context(), after, followPage)
		if err != nil {
			return err
		}
		for _, cs := range sets {
			if err := stream.Send(cs); err != nil {
				return err
			}
			after = cs.GetPosition()
		}
	}
}

// Run implements sqldbpb.SQLServer.
func (s *Server) Run(ctx context.Context, r *sqldbpb.RunRequest) (*sqldbpb.RunReply, error) {
	if err := validStatements(r.GetStatements()); err != nil {
		return nil, err
	}
	if !writes(r.GetStatements()) {
		out, err := s.history.db.read(ctx, r.GetStatements())
		st, _ := s.history.look()
		return &sqldbpb.RunReply{Results: out, Position: st.position}, err
	}
	return s.settle(ctx, r)
}

func writes(in []*sqldbpb.Statement) bool {
	for _, st := range in {
		if !st.GetQuery() {
			return true
		}
	}
	return false
}

// certain waits until a primary of an earlier run has asked its peers whether
// another one was promoted since. One that has never written need not ask.
func (s *Server) certain(ctx context.Context) error {
	if st, _ := s.history.look(); st.position == 0 {
		return nil
	}
	select {
	case <-s.checked:
		return nil
	case <-ctx.Done():
		return &services.Error{Kind: services.Unavailable, Msg: "the primary has just started and is asking its peers", Err: ctx.Err()}
	}
}

// write runs a transaction on the primary and adds its change set.
func (s *Server) write(ctx context.Context, r *sqldbpb.RunRequest) (*sqldbpb.RunReply, error) {
	var out []*sqldbpb.Result
	st, err := s.history.update(ctx, func(tx *sql.Tx, now *state) error {
		switch {
		case !now.primary:
			return s.notPrimary()
		case now.fenced:
			return services.Errorf(services.Unavailable, "the primary in %s is fenced: another region is being promoted", s.cfg.Region).WithReason(ReasonFenced)
		}
		results, changed, err := execute(context.WithoutCancel(ctx), tx, r.GetStatements())
		if err != nil {
			return err
		}
		if out = results; !changed {
			return nil
		}
		return now.appendSet(tx, changes(r.GetStatements()))
	})
	s.metrics.write(err)
	if err != nil {
		return nil, err
	}
	if md, ok := metadata.FromIncomingContext(ctx); ok && one(md, mdConfirm) != "" {
		s.confirmed(ctx, st.position)
	}
	return &sqldbpb.RunReply{Results: out, Position: st.position}, nil
}

// changes leaves out what only reads.
func changes(in []*sqldbpb.Statement) []*sqldbpb.Statement {
	var out []*sqldbpb.Statement
	for _, st := range in {
		if !st.GetQuery() {
			out = append(out, st)
		}
	}
	return out
}

// confirmed waits until a connected replica has a position. As with MySQL's
// semi-synchronous replication, a write does not fail for want of a replica:
// it is then acknowledged by the primary alone, counted and logged.
func (s *Server) confirmed(ctx context.Context, position uint64) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timing.RPCTimeout.D())
	defer cancel()
	start := time.Now()
	how := s.followers.await(ctx, position)
	s.metrics.confirms.WithLabelValues(string(how)).Inc()
	if how == confirmLate {
		s.cfg.Tel.Log.Warn("no replica confirmed a write in time", "position", position, "waited", time.Since(start))
	}
}

// settle runs a transaction that writes, here or at the primary, and waits out
// a promotion. A transaction that nobody took may go to the next primary
// without harm; one whose fate is unknown may not.
func (s *Server) settle(ctx context.Context, r *sqldbpb.RunRequest) (*sqldbpb.RunReply, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	forwarded := one(md, mdForwarded) != ""
	wait, cancel := context.WithTimeout(ctx, forwardFactor*s.cfg.Timing.RPCTimeout.D())
	defer cancel()
	pause := backoff{most: s.cfg.Timing.BreakerSleep.D()}
	for {
		_, changed := s.history.look()
		reply, err := s.attempt(ctx, r, one(md, mdConfirm), forwarded)
		if forwarded || !elsewhere(err) {
			return reply, err
		}
		timer := time.NewTimer(pause.next())
		select {
		case <-timer.C:
		case <-changed:
		case <-wait.Done():
			timer.Stop()
			return nil, &services.Error{
				Kind: services.Unavailable, Reason: ReasonNoPrimary, Err: err,
				Msg: "no primary takes writes", Remedy: "wait for the promotion under way, or promote a region",
			}
		}
		timer.Stop()
		s.peers.refresh()
	}
}

// attempt runs a transaction here if this node is primary, else at the primary
// that it knows.
func (s *Server) attempt(ctx context.Context, r *sqldbpb.RunRequest, confirm string, forwarded bool) (*sqldbpb.RunReply, error) {
	if st, _ := s.history.look(); st.primary {
		if err := s.certain(ctx); err != nil {
			return nil, err
		}
		return s.write(ctx, r)
	}
	if forwarded {
		return nil, s.notPrimary()
	}
	lead, _ := s.peers.leader()
	if lead == nil {
		return nil, s.notPrimary()
	}
	l := s.peers.link(lead.region)
	if l == nil {
		return nil, s.notPrimary()
	}
	out := metadata.Pairs(mdForwarded, s.cfg.Region)
	if confirm != "" {
		out.Set(mdConfirm, confirm)
	}
	reply, err := l.rpc.Run(metadata.NewOutgoingContext(ctx, out), r)
	return reply, services.Wrap("primary in "+lead.region, err)
}

// forwardFactor times the RPC timeout is how long a write waits for a primary,
// so that a promotion between two regions does not fail it.
const forwardFactor = 2

// elsewhere says that the primary asked did not take the write and is about to
// be, or has been, replaced.
func elsewhere(err error) bool {
	reason := services.ReasonOf(err)
	return err != nil && (reason == ReasonNotPrimary || reason == ReasonFenced)
}

// Metadata of Run: mdForwarded names the region that handed it on, mdConfirm
// asks for a replica's confirmation.
const (
	mdForwarded = "flix-sql-forwarded"
	mdConfirm   = "flix-sql-confirm"
)
