package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"
)

// slowBy is how long a call of the slow dependency takes: far longer than any
// caller waits.
const slowBy = 20 * time.Second

// TestOneSlowDependency makes the recommendations slow and asks for rows, which
// need them, and for plans and titles, which do not: rows fall back and say so,
// nobody else waits, and the breaker opens. When the fault is over they are
// fresh again.
func TestOneSlowDependency(t *testing.T) {
	for _, rt := range runtimes(t) {
		t.Run(rt.Name, func(t *testing.T) {
			rt.seldom(t)
			l := up(t, rt, "--regions", "2")
			var in struct {
				Token string `json:"token"`
			}
			decode(t, l.must("api", "--anonymous", "/signup/signin", "--data", `{"email":"demo@flix.test","password":"flix-demo","device":"web"}`), &in)
			base := member{"http://" + l.proxy(), in.Token}
			if r, err := askRows(base); err != nil || r.Stale {
				t.Fatalf("before: %+v, %v", r, err)
			}
			l.must("chaos", "run", "slow-call", "--target", "recommend", "delay="+slowBy.String(), "--ttl", "5m")
			others := make(chan time.Duration, 400)
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for range 5 {
						if r, err := askRows(base); err != nil || !r.Stale || len(r.Rows) == 0 {
							t.Errorf("beside a slow dependency: %d rows, stale %t, %v", len(r.Rows), r.Stale, err)
						}
					}
				})
			}
			for _, path := range []string{"/signup/plans", "/discovery/titles"} {
				for range 2 {
					wg.Go(func() {
						for range 50 {
							start := time.Now()
							if err := base.get(path, nil); err != nil {
								t.Errorf("%s: %v", path, err)
							}
							others <- time.Since(start)
						}
					})
				}
			}
			wg.Wait()
			close(others)
			for d := range others {
				if d >= slowBy {
					t.Errorf("a call that does not need the slow dependency took %s, as if it had waited for it", d)
				}
			}
			await(t, 30*time.Second, "the breaker to open", func() error {
				var many sync.WaitGroup
				for range 60 { // it opens by what it sees, and judges no few calls
					many.Go(func() { _, _ = askRows(base) })
				}
				many.Wait()
				return breakerIs(l, "open")
			})
			l.must("chaos", "stop", "--all")
			await(t, 60*time.Second, "fresh rows", func() error {
				r, err := askRows(base)
				if err == nil && r.Stale {
					err = fmt.Errorf("they are stale")
				}
				return err
			})
		})
	}
}

// breakerIs fails unless the breaker of the rows is in a state somewhere.
func breakerIs(l *lab, state string) error {
	found := read[struct {
		Commands []struct {
			Instance string `json:"instance"`
			Breaker  string `json:"breaker"`
		} `json:"commands"`
	}](l, "command", "ls", "GetRows")
	for _, c := range found.Commands {
		if c.Breaker == state {
			return nil
		}
	}
	return fmt.Errorf("none is %s: %+v", state, found)
}

type rowsReply struct {
	Rows  []json.RawMessage `json:"rows"`
	Stale bool              `json:"stale"`
}

func askRows(m member) (r rowsReply, err error) {
	err = m.get("/discovery/rows", &r)
	return r, err
}

// member is a member at an address of the public API.
type member struct{ base, token string }

// get reads a JSON answer with status 200.
func (m member) get(path string, into any) error {
	req, err := http.NewRequest(http.MethodGet, m.base+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+m.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(into)
}
