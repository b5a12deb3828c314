package mariadb

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb/sqldbpb"
)

// State implements sqldbpb.SQLServer, with a fresh look at the own server.
func (k *Keeper) State(ctx context.Context, _ *sqldbpb.StateRequest) (*sqldbpb.StateReply, error) {
	ctx, cancel := context.WithTimeout(ctx, k.cfg.Timing.RPCTimeout.D())
	defer cancel()
	own, err := look(ctx, k.read)
	if err != nil {
		return nil, services.Wrap("the server of "+k.cfg.Region, err)
	}
	k.mu.Lock()
	s := k.seen
	k.mu.Unlock()
	s.own = own
	return k.reply(s), nil
}

// leads says whether the own server is the one that the newest promotion names.
func (k *Keeper) leads(s seen) bool {
	lead := s.leader()
	return lead.epoch > 0 && lead.region == k.cfg.Region && lead == s.own.last()
}

func (k *Keeper) reply(s seen) *sqldbpb.StateReply {
	return &sqldbpb.StateReply{
		Primary: k.leads(s) && (s.own.fenced || !s.own.readOnly), Fenced: s.own.fenced,
		Position: s.own.position(), Epoch: s.own.last().epoch, Region: k.cfg.Region,
	}
}

// Fence implements sqldbpb.SQLServer. When it returns, every transaction that
// the primary has accepted is in its log, and none will follow. A fence
// outlives restarts of the server and of its Keeper.
func (k *Keeper) Fence(ctx context.Context, _ *sqldbpb.FenceRequest) (*sqldbpb.StateReply, error) {
	var reply *sqldbpb.StateReply
	err := k.inTurn(ctx, func(ctx context.Context) error {
		s := k.look(ctx, k.cfg.Timing.RPCTimeout.D())
		switch {
		case !s.ok:
			return k.silent()
		case !k.leads(s):
			return services.Errorf(services.Conflict, "the server of %s is a replica", k.cfg.Region).WithReason(ReasonNotPrimary)
		}
		if !s.own.readOnly {
			if err := k.close4writes(ctx); err != nil {
				return err
			}
		}
		if !s.own.fenced {
			if err := k.setFenced(ctx, true); err != nil {
				return err
			}
		}
		var err error
		if s.own, err = look(ctx, k.read); err != nil {
			return err
		}
		reply = k.reply(s)
		return nil
	})
	if err != nil {
		return nil, services.Wrap("sqldb.Fence", err)
	}
	k.cfg.Tel.Log.Info("fenced", "position", reply.GetPosition(), "epoch", reply.GetEpoch())
	return reply, nil
}

func (k *Keeper) silent() error {
	return services.Errorf(services.Unavailable, "the server of %s does not answer", k.cfg.Region)
}

// Promote implements sqldbpb.SQLServer. Besides the position it waits for what
// the own server has received, and takes over what any other server in reach has
// more than it: a replica among them has confirmed what clients were told is
// done. A primary in reach is fenced first.
func (k *Keeper) Promote(ctx context.Context, r *sqldbpb.PromoteRequest) (*sqldbpb.StateReply, error) {
	if err := k.reach(ctx, r.GetPosition()); err != nil {
		return nil, services.Wrap("sqldb.Promote", err)
	}
	var reply *sqldbpb.StateReply
	err := k.inTurn(ctx, func(ctx context.Context) error {
		if err := k.promote(ctx, r.GetPosition()); err != nil {
			return err
		}
		reply = k.reply(k.look(ctx, k.grace()))
		return nil
	})
	if err != nil {
		return nil, services.Wrap("sqldb.Promote", err)
	}
	k.cfg.Tel.Log.Info("promoted", "position", reply.GetPosition(), "epoch", reply.GetEpoch())
	return reply, nil
}

// reach waits until the own server has a position, following as it does. A
// primary need not: nobody brings it further.
func (k *Keeper) reach(ctx context.Context, position uint64) error {
	for {
		own, err := look(ctx, k.read)
		if err != nil {
			return err
		}
		if own.position() >= position || !own.readOnly {
			return nil
		}
		if err := k.awaitApplied(ctx, position); err != nil {
			return &services.Error{
				Kind: services.Unavailable, Err: err,
				Msg:    fmt.Sprintf("the server of %s has applied transaction %d of %d", k.cfg.Region, own.position(), position),
				Remedy: "bring the old primary back into reach, or promote with the position that is here and lose what comes after it",
			}
		}
	}
}

// awaitSlice is how long the server is asked to wait at once: it does not
// notice that a caller has gone.
const awaitSlice = 200 * time.Millisecond

// awaitApplied waits until a replica has applied a position, or a while. The
// server compares numbers within a domain alone, so that any server id will do.
func (k *Keeper) awaitApplied(ctx context.Context, position uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return withConn(ctx, k.read, func(conn *sql.Conn) error {
		_, err := query(ctx, conn, fmt.Sprintf("SELECT MASTER_GTID_WAIT('0-1-%d', %g)", position, awaitSlice.Seconds()), nil)
		return err
	})
}

func (k *Keeper) promote(ctx context.Context, position uint64) error {
	s := k.look(ctx, k.cfg.Timing.RPCTimeout.D())
	switch {
	case !s.ok:
		return k.silent()
	case !s.own.joined:
		return services.Errorf(services.Unavailable, "the server of %s has not joined yet", k.cfg.Region)
	case s.own.position() < position:
		return services.Errorf(services.Conflict, "the server of %s is primary at position %d: nobody can bring it to %d", k.cfg.Region, s.own.position(), position)
	case k.leads(s) && !s.own.readOnly:
		return nil
	}
	if !k.leads(s) {
		lead := s.leader().region
		if v, ok := s.peers[lead]; ok && !v.readOnly {
			if err := k.fencePeer(ctx, lead); err != nil {
				return services.Wrap("fence the primary in "+lead, err)
			}
			s = k.look(ctx, k.cfg.Timing.RPCTimeout.D())
		}
	}
	if err := k.gather(ctx, s); err != nil {
		return err
	}
	// From here on it is to be brought to its end, whether or not the caller waits.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), silence)
	defer cancel()
	if err := k.begin(ctx, s.leader().epoch+1); err != nil {
		return err
	}
	if err := k.setFenced(ctx, false); err != nil {
		return err
	}
	return k.open(ctx)
}

// fencePeer fences the primary of another region past its Keeper, which learns
// of it by the mark: with a primary that goes on until it hears of the promotion
// its last writes would be lost.
func (k *Keeper) fencePeer(ctx context.Context, region string) error {
	db := k.peer(region)
	if db == nil {
		return services.Errorf(services.Unavailable, "the address of the server of %s is not known", region)
	}
	return do(ctx, db, `SET SESSION sql_log_bin = OFF`, fmt.Sprintf(`UPDATE %s SET fenced = 1`, nodeTable), `SET SESSION sql_log_bin = ON`,
		closeWait(), `SET GLOBAL read_only = ON`)
}

// gather brings the own server as far as it has received, then as far as the
// replica in reach that has the most.
func (k *Keeper) gather(ctx context.Context, s seen) error {
	if s.own.source.set {
		if err := do(ctx, k.own, `STOP SLAVE IO_THREAD`); err != nil {
			return err
		}
		own, err := look(ctx, k.read)
		if err != nil {
			return err
		}
		if err := k.drain(ctx, own.source.received.seq); err != nil {
			return err
		}
		s.own = own
	}
	region, target := s.furthest()
	if region != "" {
		own, err := look(ctx, k.read)
		if err != nil {
			return err
		}
		host, port := k.cfg.Via(region)
		if host == "" {
			return services.Errorf(services.Unavailable, "there is no way to the server of %s, which has more transactions", region)
		}
		k.cfg.Tel.Log.Info("taking over what another replica has", "region", region, "own", own.position(), "there", target)
		if err := k.start(ctx, own, region, host, port); err != nil {
			return err
		}
		if err := k.drain(ctx, target); err != nil {
			return err
		}
	}
	return do(ctx, k.own, `STOP SLAVE`, `RESET SLAVE ALL`)
}

// furthest is the region whose replica has the most transactions of the own
// history, if that is more than the own server has. The old primary is one of
// them, fenced as it is.
func (s seen) furthest() (region string, position uint64) {
	position = s.own.position()
	for r, v := range s.peers {
		has := max(v.position(), v.source.received.seq)
		if has > position && v.readOnly && s.own.strays(v) == 0 {
			region, position = r, has
		}
	}
	return region, position
}

// drain waits until the own server has applied a position that it has received
// or is receiving.
func (k *Keeper) drain(ctx context.Context, position uint64) error {
	for {
		own, err := look(ctx, k.read)
		switch {
		case err != nil:
			return err
		case own.position() >= position:
			return nil
		case !own.source.applying:
			return services.Errorf(services.Internal, "the server of %s does not apply what it has received: %s", k.cfg.Region, own.source.text)
		}
		if err := k.awaitApplied(ctx, position); err != nil {
			return &services.Error{Kind: services.Unavailable, Msg: fmt.Sprintf("the server of %s has applied transaction %d of %d", k.cfg.Region, own.position(), position), Err: err}
		}
	}
}
