package check

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Writer writes one value under a key that is new; it returns nil once the
// store has acknowledged it.
type Writer func(ctx context.Context, key, value string) error

// Load is a stream of writes of each kind.
type Load struct {
	Write map[Kind]Writer
	// Rate is how many writes of each kind begin per second, For how long.
	Rate float64
	For  time.Duration
	// Timeout bounds one write.
	Timeout time.Duration
	Log     *Log
	// Acknowledged is told of every write that counts, perhaps by several at
	// once; nil is nobody.
	Acknowledged func(Entry)
}

// Writes is what became of the writes of one kind.
type Writes struct {
	Attempted int
	Refused   int
	// Refusal is the first write's that failed.
	Refusal error
	// Entries are the acknowledged ones.
	Entries []Entry
}

// inFlight bounds the writes of a kind under way: a store that does not answer
// is asked less often, as by clients that wait for it.
const inFlight = 32

// Run writes until its time is over or ctx ends, then waits for what is under
// way. It fails only when the log does.
func (l Load) Run(ctx context.Context) (map[Kind]*Writes, error) {
	g, gctx := errgroup.WithContext(ctx)
	timed, cancel := context.WithTimeout(gctx, l.For)
	defer cancel()
	out := map[Kind]*Writes{}
	for kind, write := range l.Write {
		w := &Writes{}
		out[kind] = w
		g.Go(func() error { return l.stream(timed, kind, write, w) })
	}
	return out, g.Wait()
}

func (l Load) stream(ctx context.Context, kind Kind, write Writer, w *Writes) error {
	var mu sync.Mutex // guards w
	var g errgroup.Group
	g.SetLimit(inFlight)
	tick := time.NewTicker(time.Duration(float64(time.Second) / l.Rate))
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		mu.Lock()
		w.Attempted++
		mu.Unlock()
		g.Go(func() error {
			// The end of the load does not cut a write off: it would make a
			// refusal of what was none.
			one, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.Timeout)
			defer cancel()
			e := Entry{Kind: kind, Key: fmt.Sprintf("%08d", n), Value: fmt.Sprint(n)}
			if err := write(one, e.Key, e.Value); err != nil {
				mu.Lock()
				defer mu.Unlock()
				if w.Refused++; w.Refusal == nil {
					w.Refusal = err
				}
				return nil
			}
			e.At = time.Now()
			if err := l.Log.Append(e); err != nil {
				return fmt.Errorf("log: %w", err)
			}
			mu.Lock()
			w.Entries = append(w.Entries, e)
			mu.Unlock()
			if l.Acknowledged != nil {
				l.Acknowledged(e)
			}
			return nil
		})
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return g.Wait()
}
