package mariadb

import (
	"context"
	"database/sql"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb"
)

// writer is a sqldb.Conn to the primary, wherever it is.
type writer struct {
	cfg     Config
	finder  *finder
	metrics *clientMetrics
}

var _ sqldb.Conn = (*writer)(nil)

func newWriter(c Config) (*writer, error) {
	if c.Local == nil || c.Nodes == nil || c.Tel == nil || c.User == "" || c.Database == "" {
		return nil, services.Errorf(services.Invalid, "mariadb: Local, Nodes, Tel, User and Database are needed")
	}
	return &writer{cfg: c, finder: newFinder(c), metrics: newClientMetrics(c.Tel.Metrics)}, nil
}

// Close implements sqldb.Conn.
func (w *writer) Close() error { return w.finder.close() }

// waitFactor times the RPC timeout is how long a write waits for a primary, so
// that a promotion between two regions does not fail it.
const waitFactor = 2

// Run implements sqldb.Conn. A transaction that broke a unique key is run once
// again before the conflict is believed: see the package's comment on isolation.
// MariaDB told of it when the other row was committed, so that now it is seen.
func (w *writer) Run(ctx context.Context, tx sqldb.Tx) ([]sqldb.Result, error) {
	b, err := newBatch(tx)
	if err != nil {
		return nil, err
	}
	var (
		out []sqldb.Result
		how confirmation
	)
	err = w.settle(ctx, func(db *sql.DB) error {
		var err error
		if out, how, err = b.runConfirmed(ctx, db); services.ReasonOf(err) == ReasonExists {
			out, how, err = b.runConfirmed(ctx, db)
		}
		return err
	})
	w.metrics.done(how, err)
	return out, err
}

// settle runs f with the primary and waits out a promotion: what surely changed
// nothing is tried again for a while, here or at the next primary.
func (w *writer) settle(ctx context.Context, f func(*sql.DB) error) error {
	wait, cancel := context.WithTimeout(ctx, waitFactor*w.cfg.Timing.RPCTimeout.D())
	defer cancel()
	pause := firstBackoff
	for {
		err := w.attempt(ctx, wait, f)
		if !untaken(err) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-wait.Done():
			timer.Stop()
			return given(err)
		}
		pause = min(2*pause, max(w.cfg.Timing.BreakerSleep.D(), firstBackoff))
	}
}

// given is the error of a write that nobody took in time.
func given(err error) error {
	if services.ReasonOf(err) == ReasonBusy {
		return err
	}
	return &services.Error{
		Kind: services.Unavailable, Reason: ReasonNoPrimary, Err: err,
		Msg: "no primary takes writes", Remedy: "wait for the promotion under way, or promote a region",
	}
}

func (w *writer) attempt(ctx, wait context.Context, f func(*sql.DB) error) error {
	p, err := w.finder.primary(wait)
	if err != nil {
		return err
	}
	err = f(p.db)
	if elsewhere(err) {
		w.finder.doubt(p)
	}
	return services.Wrap("primary in "+p.region, err)
}

// firstBackoff is the pause after the first failure; it doubles with each one
// in a row.
const firstBackoff = 10 * time.Millisecond
