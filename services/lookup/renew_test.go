package lookup

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/topology"
)

// Leases that are due soon are renewed along with one that is due, so that
// those of a process go together; none is when nothing is due.
func TestRenewalsGoTogether(t *testing.T) {
	var renewed []string
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "/renewals") { // as a stock registry answers
			w.WriteHeader(http.StatusNotFound)
			return
		}
		renewed = append(renewed, req.URL.Query().Get("status"))
	}))
	defer registry.Close()
	timing := topology.LabTiming()
	timing.LeaseRenewal = topology.Duration(time.Hour)
	c := New(Config{Registry: func() []string { return []string{registry.URL} }, Timing: timing})
	defer c.http.CloseIdleConnections()
	now := time.Now()
	for id, wait := range map[string]time.Duration{"due": -time.Second, "soon": 10 * time.Minute, "later": 30 * time.Minute} {
		c.regs[id] = &registration{
			turn: make(chan struct{}, 1), settled: make(chan struct{}), current: true, renewAt: now.Add(wait),
			inst: Instance{ID: id, App: "kv", VIP: "kv", Host: "127.0.0.1", Status: id},
		}
	}
	round := func(wait time.Duration, want ...string) {
		t.Helper()
		renewed = nil
		next, err := c.renewDue(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if slices.Sort(renewed); !slices.Equal(renewed, want) {
			t.Errorf("renewed %v, want %v", renewed, want)
		}
		if next > wait || next < wait-time.Minute {
			t.Errorf("the next round is in %v, want about %v", next, wait)
		}
	}
	round(30*time.Minute, "due", "soon")
	round(30 * time.Minute)
	c.regs["later"].renewAt = now
	c.regs["due"].renewAt, c.regs["soon"].renewAt = now.Add(time.Minute), now.Add(50*time.Minute)
	round(50*time.Minute, "due", "later")
}
