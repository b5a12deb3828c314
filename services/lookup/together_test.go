package lookup_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flix-lab/flix/services/lookup"
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

// inBubble serves the handler over connections in memory, and returns a client
// that knows of nothing else; both end with the test, whose time is not the
// world's.
func inBubble(t *testing.T, h http.Handler) *lookup.Client {
	l := pipes{make(chan net.Conn), make(chan struct{})}
	srv := &http.Server{Handler: h}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) }) // until it is closed
	c := lookup.New(lookup.Config{
		Registry: func() []string { return []string{"http://registry"} }, Region: "us-east", Timing: testTiming(),
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			here, there := net.Pipe()
			select {
			case l.conns <- there:
				return here, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); _ = srv.Close(); wg.Wait() })
	return c
}

// pipes is a listener of connections in memory.
type pipes struct {
	conns chan net.Conn
	ended chan struct{}
}

// Accept implements net.Listener.
func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener; a server closes it once.
func (p pipes) Close() error { close(p.ended); return nil }

// Addr implements net.Listener.
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestRenewsTogether: the instances of a process are renewed by one request
// where the registry can, and one by one where it is a stock one.
func TestRenewsTogether(t *testing.T) {
	for _, knows := range []bool{true, false} {
		t.Run(fmt.Sprintf("knows=%v", knows), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { renewsTogether(t, knows) })
		})
	}
}

func renewsTogether(t *testing.T, knows bool) {
	c := &counter{knows: knows}
	client := inBubble(t, c)
	for n := range 5 {
		if err := client.Register(kv(n)); err != nil {
			t.Fatal(err)
		}
	}
	<-time.After(3*testTiming().LeaseRenewal.D() + time.Millisecond) // fake time
	synctest.Wait()
	together, alone := int64(3), int64(0)
	if !knows {
		together, alone = 0, 15
	}
	if c.registered.Load() != 5 || c.together.Load() != together || c.alone.Load() != alone {
		t.Errorf("%d registered, %d renewals together and %d alone; want 5, %d, %d", c.registered.Load(), c.together.Load(), c.alone.Load(), together, alone)
	}
	if !knows {
		return
	}
	c.forgot.Store(1)
	<-time.After(3 * testTiming().LeaseRenewal.D()) // fake time
	synctest.Wait()
	if n := c.registered.Load(); n != 6 || c.alone.Load() != 0 {
		t.Errorf("%d registrations after one was forgotten, and %d renewals alone", n-5, c.alone.Load())
	}
	if err := client.Registered(deadline(t), kv(0).ID); err != nil {
		t.Error(err)
	}
}
