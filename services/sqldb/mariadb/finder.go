package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"

	"github.com/flix-lab/flix/services"
)

// primary is the server that takes writes.
type primary struct {
	region string
	epoch  int64
	db     *sql.DB
	// asked is when it was found to be the newest.
	asked time.Time
}

// finder knows the servers and which of them is the primary.
type finder struct {
	cfg Config
	// turn is held by the one who asks the servers; a channel, so that waiting
	// for it ends with a context.
	turn chan struct{}

	mu    sync.Mutex
	pools map[string]*sql.DB
	found *primary
	// checks are the looks in the background.
	checks sync.WaitGroup
	ctx    context.Context
	stop   context.CancelFunc
}

func newFinder(c Config) *finder {
	f := &finder{cfg: c, turn: make(chan struct{}, 1), pools: map[string]*sql.DB{}}
	f.ctx, f.stop = context.WithCancel(context.Background())
	return f
}

func (f *finder) close() error {
	f.stop()
	f.checks.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for _, db := range f.pools {
		errs = append(errs, db.Close())
	}
	f.pools = map[string]*sql.DB{}
	return errors.Join(errs...)
}

// primary returns the one that is known, or asks for it. One that was found
// long ago is used and looked up in the background: another may have been
// promoted while it was cut off from the rest.
func (f *finder) primary(ctx context.Context) (*primary, error) {
	if p := f.known(); p != nil {
		if time.Since(p.asked) > f.cfg.Timing.RegistryFetch.D() {
			f.check()
		}
		return p, nil
	}
	return f.ask(ctx)
}

func (f *finder) known() *primary {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.found
}

// doubt forgets a primary that failed.
func (f *finder) doubt(p *primary) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.found == p {
		f.found = nil
	}
}

// check asks in the background unless somebody is asking.
func (f *finder) check() {
	select {
	case f.turn <- struct{}{}:
	default:
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil {
		<-f.turn
		return
	}
	f.checks.Go(func() {
		defer func() { <-f.turn }()
		if _, err := f.look(f.ctx, f.cfg.Timing.RPCTimeout.D()); err != nil {
			f.cfg.Tel.Log.Debug("look for the primary", "err", err)
		}
	})
}

func (f *finder) ask(ctx context.Context) (*primary, error) {
	select {
	case f.turn <- struct{}{}:
		defer func() { <-f.turn }()
	case <-ctx.Done():
		return nil, &services.Error{Kind: services.Unavailable, Reason: ReasonNoPrimary, Msg: "the primary is being looked for", Err: ctx.Err()}
	}
	if p := f.known(); p != nil {
		return p, nil
	}
	return f.look(ctx, f.cfg.Timing.RPCTimeout.D()/graceShare)
}

// graceShare is the part of the RPC timeout that the others have to answer when
// one has said that it is primary and somebody waits: a region that is cut off
// is not to hold up every write. If one of them is newer after all, the next
// check finds it, which waits for all.
const graceShare = 4

// look asks every server and takes the one with the newest promotion of those
// that take writes; of two with the same the first region by name, as the
// Keepers do. It waits no longer than for a call, and for a grace when one has
// been found.
func (f *finder) look(ctx context.Context, grace time.Duration) (*primary, error) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Timing.RPCTimeout.D())
	defer cancel()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		best *primary
		errs []error
		// hurry ends the wait for the others.
		hurry *time.Timer
	)
	pools, err := f.connect()
	if err != nil {
		return nil, err
	}
	for region, db := range pools {
		wg.Go(func() {
			epoch, writable, err := askPrimary(ctx, db)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				errs = append(errs, services.Wrap(region, err))
			case writable && best == nil:
				best = &primary{region: region, epoch: epoch, db: db}
				hurry = time.AfterFunc(grace, cancel)
			case writable && (epoch > best.epoch || (epoch == best.epoch && region < best.region)):
				best = &primary{region: region, epoch: epoch, db: db}
			}
		})
	}
	wg.Wait()
	if hurry != nil {
		hurry.Stop()
	}
	if best == nil {
		return nil, &services.Error{Kind: services.Unavailable, Reason: ReasonNoPrimary, Msg: "no server takes writes", Err: errors.Join(errs...)}
	}
	best.asked = time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.found == nil || f.found.region != best.region || f.found.epoch != best.epoch {
		f.cfg.Tel.Log.Info("found the primary", "region", best.region, "epoch", best.epoch)
	}
	f.found = best
	return best, nil
}

// connect brings the pools in line with the nodes; it waits for nothing.
func (f *finder) connect() (map[string]*sql.DB, error) {
	nodes := f.cfg.Nodes()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil {
		return nil, services.Errorf(services.Unavailable, "the client is closed")
	}
	out := map[string]*sql.DB{}
	for region := range nodes {
		if f.pools[region] == nil {
			t := f.cfg.target()
			t.addr = fixed(f.cfg.Nodes, region)
			db, err := t.open()
			if err != nil {
				return nil, err
			}
			f.pools[region] = db
		}
		out[region] = f.pools[region]
	}
	return out, nil
}

// askPrimary asks a server whether it takes writes and which promotion it knows
// of. A server that no Keeper looks after counts as one before the first.
func askPrimary(ctx context.Context, db *sql.DB) (epoch int64, writable bool, err error) {
	err = withConn(ctx, db, func(conn *sql.Conn) error {
		r, err := query(ctx, conn, "SELECT @@global.read_only", nil)
		if err != nil {
			return err
		}
		readOnly, err := only(r[0])
		if err != nil || readOnly != 0 {
			return err
		}
		writable = true
		r, err = query(ctx, conn, "SELECT COALESCE(MAX(epoch), 0) FROM "+promotions, nil)
		switch number(err) {
		case errNoTable, errNoDatabase, errTableDenied, errDatabaseDenied:
			return nil
		}
		if err == nil {
			epoch, err = only(r[0])
		}
		return err
	})
	return epoch, writable, err
}
