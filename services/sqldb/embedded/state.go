package embedded

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb/sqldbpb"
)

// state is what a node is; it is kept in the database and changes only in the
// transaction that makes it true.
type state struct {
	primary, fenced bool
	// epoch is the highest one that the node knows of.
	epoch uint64
	// position of the last change set applied.
	position uint64
}

// history is the database with its state and its log of change sets.
type history struct {
	db *database

	mu      sync.Mutex
	now     state
	changed chan struct{} // closed when now changes
}

func openHistory(dir string, primary bool) (*history, error) {
	db, err := openDatabase(dir)
	if err != nil {
		return nil, err
	}
	h := &history{db: db, changed: make(chan struct{})}
	if err := h.load(primary); err != nil {
		return nil, errors.Join(err, db.close())
	}
	return h, nil
}

// load reads the state; the declared role counts only the first time.
func (h *history) load(primary bool) error {
	return h.db.tx(context.Background(), func(tx *sql.Tx) error {
		if primary {
			if _, err := tx.Exec(`INSERT OR IGNORE INTO flix_state VALUES (1, 1, 0, 1, 0)`); err != nil {
				return err
			}
		} else if _, err := tx.Exec(`INSERT OR IGNORE INTO flix_state VALUES (1, 0, 0, 0, 0)`); err != nil {
			return err
		}
		return tx.QueryRow(`SELECT is_primary, fenced, epoch, position FROM flix_state`).
			Scan(&h.now.primary, &h.now.fenced, &h.now.epoch, &h.now.position)
	}, func() {})
}

// look returns the state and a channel that is closed when it changes.
func (h *history) look() (state, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now, h.changed
}

// update runs f in a write transaction, one at a time; what f makes of the
// state is stored in the same transaction.
func (h *history) update(ctx context.Context, f func(tx *sql.Tx, s *state) error) (state, error) {
	var before, after state
	err := h.db.tx(ctx, func(tx *sql.Tx) error {
		before, _ = h.look()
		after = before
		if err := f(tx, &after); err != nil || after == before {
			return err
		}
		_, err := tx.Exec(`UPDATE flix_state SET is_primary = ?, fenced = ?, epoch = ?, position = ?`,
			after.primary, after.fenced, int64(after.epoch), int64(after.position))
		return err
	}, func() {
		if after != before {
			h.set(after)
		}
	})
	return after, err
}

func (h *history) set(s state) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = s
	close(h.changed)
	h.changed = make(chan struct{})
}

// appendSet adds a change set at the next position.
func (s *state) appendSet(tx *sql.Tx, statements []*sqldbpb.Statement) error {
	s.position++
	return insertSet(tx, &sqldbpb.ChangeSet{Position: s.position, Epoch: s.epoch, Statements: statements})
}

func insertSet(tx *sql.Tx, cs *sqldbpb.ChangeSet) error {
	body, err := proto.Marshal(cs)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO flix_changesets (position, epoch, body) VALUES (?, ?, ?)`, int64(cs.GetPosition()), int64(cs.GetEpoch()), body)
	return err
}

// applySet runs a change set that came from the primary.
func (h *history) applySet(ctx context.Context, cs *sqldbpb.ChangeSet) error {
	_, err := h.update(ctx, func(tx *sql.Tx, s *state) error {
		if s.primary {
			return errPromoted
		}
		if cs.GetPosition() != s.position+1 {
			return fmt.Errorf("change set %d after %d", cs.GetPosition(), s.position)
		}
		if _, _, err := execute(ctx, tx, cs.GetStatements()); err != nil {
			return fmt.Errorf("change set %d: %w", cs.GetPosition(), err)
		}
		s.position, s.epoch = cs.GetPosition(), max(s.epoch, cs.GetEpoch())
		return insertSet(tx, cs)
	})
	return err
}

var errPromoted = errors.New("this node was promoted")

// setsAfter reads up to n change sets after a position.
func (h *history) setsAfter(ctx context.Context, after uint64, n int) ([]*sqldbpb.ChangeSet, error) {
	return readSets(ctx, h.db.reader, after, n)
}

func readSets(ctx context.Context, q queryer, after uint64, n int) ([]*sqldbpb.ChangeSet, error) {
	rows, err := q.QueryContext(ctx, `SELECT body FROM flix_changesets WHERE position > ? ORDER BY position LIMIT ?`, int64(after), n)
	if err != nil {
		return nil, ended(ctx, err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	var out []*sqldbpb.ChangeSet
	for rows.Next() {
		var body []byte
		if err := rows.Scan(&body); err != nil {
			return nil, err
		}
		cs := &sqldbpb.ChangeSet{}
		if err := proto.Unmarshal(body, cs); err != nil {
			return nil, fmt.Errorf("change set after %d: %w", after, err)
		}
		out = append(out, cs)
	}
	return out, rows.Err()
}

// setAt reads one change set; nil when there is none.
func (h *history) setAt(ctx context.Context, position uint64) (*sqldbpb.ChangeSet, error) {
	sets, err := h.setsAfter(ctx, position-1, 1)
	if err != nil || len(sets) == 0 || sets[0].GetPosition() != position {
		return nil, err
	}
	return sets[0], nil
}

// cutAfter moves the change sets after a position aside and rebuilds the
// tables from those up to it, in one transaction: readers see the one history
// or the other.
func (h *history) cutAfter(ctx context.Context, position uint64, now time.Time) error {
	_, err := h.update(ctx, func(tx *sql.Tx, s *state) error {
		if s.primary {
			return errPromoted
		}
		if _, err := tx.Exec(`INSERT INTO flix_diverged (position, epoch, body, found_us)
			SELECT position, epoch, body, ? FROM flix_changesets WHERE position > ?`, now.UnixMicro(), int64(position)); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM flix_changesets WHERE position > ?`, int64(position)); err != nil {
			return err
		}
		if err := clearTables(tx); err != nil {
			return err
		}
		if err := replay(ctx, tx); err != nil {
			return err
		}
		s.position = position
		return nil
	})
	return err
}

func clearTables(tx *sql.Tx) error {
	rows, err := tx.Query(`SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'flix\_%' ESCAPE '\' AND name NOT LIKE 'sqlite\_%' ESCAPE '\'`)
	if err != nil {
		return err
	}
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return errors.Join(err, rows.Close())
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, name := range names {
		if _, err := tx.Exec(`DELETE FROM "` + name + `"`); err != nil {
			return err
		}
	}
	return nil
}

// replayPage is how many change sets a rebuild holds in memory at once.
const replayPage = 128

func replay(ctx context.Context, tx *sql.Tx) error {
	for after := uint64(0); ; {
		sets, err := readSets(ctx, tx, after, replayPage)
		if err != nil || len(sets) == 0 {
			return err
		}
		for _, cs := range sets {
			if _, _, err := execute(ctx, tx, cs.GetStatements()); err != nil {
				return fmt.Errorf("replay change set %d: %w", cs.GetPosition(), err)
			}
		}
		after = sets[len(sets)-1].GetPosition()
	}
}

// sizes counts the change sets moved aside and the bytes of the log.
func (h *history) sizes(ctx context.Context) (diverged, logBytes int64, err error) {
	err = h.db.reader.QueryRowContext(ctx,
		`SELECT (SELECT COUNT(*) FROM flix_diverged), (SELECT COALESCE(SUM(LENGTH(body)), 0) FROM flix_changesets)`).Scan(&diverged, &logBytes)
	return diverged, logBytes, ended(ctx, err)
}

// wait returns once ok holds of the state.
func (h *history) wait(ctx context.Context, ok func(state) bool) (state, error) {
	for {
		s, changed := h.look()
		if ok(s) {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s, &services.Error{Kind: services.Unavailable, Err: ctx.Err()}
		}
	}
}
