package lookup_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/flix-lab/flix/services/lookup/eureka"
)

// counter is a registry that only counts how it is asked to renew.
type counter struct {
	knows              bool // how to renew together
	together, alone    atomic.Int64
	registered, forgot atomic.Int64
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPost:
		c.registered.Add(1)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/renewals") && c.knows:
		c.together.Add(1)
		var b eureka.Batch
		_ = json.NewDecoder(r.Body).Decode(&b) // a batch that cannot be read has no outcomes, and the client renews alone
		out := eureka.Outcomes{}
		for range b.List {
			status := http.StatusOK
			if c.forgot.CompareAndSwap(1, 0) {
				status = http.StatusNotFound
			}
			out.List = append(out.List, eureka.Outcome{Status: status})
		}
		_ = json.NewEncoder(w).Encode(out)
	case r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/renewals"):
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodPut:
		c.alone.Add(1)
	default:
		_, _ = w.Write([]byte(`{"applications":{"versions__delta":"1","apps__hashcode":"","application":[]}}`))
	}
}

// TestRenewsTogether: the instances of a process are renewed by one request
// where the registry can, and one by one where it is a stock one.
func TestRenewsTogether(t *testing.T) {
	for _, knows := range []bool{true, false} {
		t.Run(fmt.Sprintf("knows=%v", knows), func(t *testing.T) {
			c := &counter{knows: knows}
			srv := httptest.NewServer(c)
			t.Cleanup(srv.Close)
			client, _ := runClient(t, testTiming(), srv.URL)
			for n := range 5 {
				if err := client.Register(kv(n)); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, func() error {
				if n := c.registered.Load(); n < 5 {
					return fmt.Errorf("%d registered", n)
				}
				if knows && c.together.Load() < 3 || !knows && c.alone.Load() < 10 {
					return fmt.Errorf("%d together, %d alone", c.together.Load(), c.alone.Load())
				}
				return nil
			})
			if knows && c.alone.Load() > 0 {
				t.Errorf("%d renewals alone beside %d together", c.alone.Load(), c.together.Load())
			}
			if !knows {
				return
			}
			before := c.registered.Load()
			c.forgot.Store(1)
			eventually(t, func() error {
				if n := c.registered.Load(); n != before+1 {
					return fmt.Errorf("%d registrations after one was forgotten", n-before)
				}
				return nil
			})
			if err := client.Registered(deadline(t), kv(0).ID); err != nil {
				t.Error(err)
			}
		})
	}
}
