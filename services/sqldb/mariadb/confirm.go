package mariadb

import (
	"strconv"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb"
)

// readCounters asks for the counters of semi-synchronous replication. They are
// the server's, not the session's: MariaDB keeps none per session.
const readCounters = "SHOW GLOBAL STATUS LIKE 'Rpl\\_semi\\_sync\\_master\\_%'"

// counters of semi-synchronous replication on a primary.
type counters struct {
	// on: replicas are connected and have confirmed all there is.
	on bool
	// replicas that are connected and confirm.
	replicas int64
	// yes and no count the commits that were confirmed and those that were not,
	// for want of a replica or of time.
	yes, no int64
}

func toCounters(r sqldb.Result) (counters, error) {
	var c counters
	for _, row := range r.Rows {
		if len(row) != 2 {
			return c, services.Errorf(services.Internal, "a status row of %d columns", len(row))
		}
		name, _ := row[0].(string)
		value, _ := row[1].(string)
		var into *int64
		switch name {
		case "Rpl_semi_sync_master_status":
			c.on = value == "ON"
			continue
		case "Rpl_semi_sync_master_clients":
			into = &c.replicas
		case "Rpl_semi_sync_master_yes_tx":
			into = &c.yes
		case "Rpl_semi_sync_master_no_tx":
			into = &c.no
		default:
			continue
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return c, &services.Error{Kind: services.Internal, Msg: "status " + name, Err: err}
		}
		*into = n
	}
	return c, nil
}

// confirmation is how a write was acknowledged.
type confirmation string

const (
	confirmReplica confirmation = "replica" // a second region has it
	confirmAlone   confirmation = "alone"   // no replica was connected
	confirmLate    confirmation = "late"    // replicas were connected, none has confirmed
)

// confirmed judges a commit by the counters before and after it. Its own commit
// is among those counted in between: when none of them went unconfirmed, it did
// not. One that was confirmed while another was not counts as late, which errs
// on the safe side and is rare. A transaction that changed nothing is counted
// nowhere; what it has read is confirmed when everything is.
func confirmed(before, after counters, changed bool) confirmation {
	switch {
	case changed && after.no == before.no && after.yes > before.yes:
		return confirmReplica
	case !changed && after.on && after.replicas > 0:
		return confirmReplica
	case after.replicas == 0:
		return confirmAlone
	}
	return confirmLate
}

func unconfirmed() error {
	return services.Errorf(services.Unavailable, "the write is on the primary, and no replica has confirmed it").
		WithReason(ReasonUnconfirmed).WithRemedy("do it again when a replica is back in reach: a write that was done already changes nothing")
}
