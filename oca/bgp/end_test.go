package bgp_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	packet "github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/flix-lab/flix/oca/bgp"
	"github.com/flix-lab/flix/topology"
)

// whole are the attributes that every announcement of the router has: origin, path
// and next hop.
var whole = slices.Concat(attribute(0x40, 1, 0), attribute(0x40, 2, 2, 1, 0xfa, 0x56, 0xea, 1), attribute(0x40, 3, 127, 0, 0, 1))

// line is a way to a speaker that can be cut without a word.
type line struct {
	to  func(context.Context) (net.Conn, error)
	mu  sync.Mutex
	end bool
	up  []net.Conn
}

func (l *line) dial(ctx context.Context) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end {
		return nil, errors.New("the line is cut")
	}
	c, err := l.to(ctx)
	if err == nil {
		l.up = append(l.up, c)
	}
	return c, err
}

func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end = true
	for _, c := range l.up {
		c.Close()
	}
}

// A router that is lost leaves its routes, as stale; one that comes back and
// announces fewer takes the rest back with its End-of-RIB.
func TestARestartDoesNotEmptyTheTable(t *testing.T) {
	l := listen(t)
	c := config(applianceAS, routerAS, "10.0.0.1")
	c.Listener = l
	appliance, _ := start(t, c)
	r := config(routerAS, applianceAS, "10.0.0.2")
	way := &line{to: dialTo(l)}
	r.Dial = way.dial
	router, _ := start(t, r)
	router.Originate([]topology.Route{route("198.18.0.0/20", 0, 0), route("2001:db8::/48", 2, 7)})
	routes(t, appliance, "198.18.0.0/20 0 0", "2001:db8::/48 2 7")
	<-appliance.Whole()
	way.cut()
	await(t, func() string {
		if st := appliance.State(); st.Established || st.Stale != 2 || st.Error == "" {
			return fmt.Sprintf("%+v", st)
		}
		return ""
	})
	routes(t, appliance, "198.18.0.0/20 0 0", "2001:db8::/48 2 7")
	r.Dial = dialTo(l)
	again, err := bgp.New(r)
	if err != nil {
		t.Fatal(err)
	}
	again.Originate([]topology.Route{route("2001:db8::/48", 1, 7)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- again.Serve(ctx) }()
	defer func() { cancel(); <-done }()
	routes(t, appliance, "2001:db8::/48 1 7")
	if st := appliance.State(); st.Stale != 0 || st.Sessions != 2 {
		t.Errorf("%+v", st)
	}
}

func TestStaleRoutesAreWithdrawnInTheEnd(t *testing.T) {
	l := listen(t)
	c := config(applianceAS, routerAS, "10.0.0.1")
	c.Listener, c.Stale = l, 50*time.Millisecond
	appliance, _ := start(t, c)
	r := config(routerAS, applianceAS, "10.0.0.2")
	way := &line{to: dialTo(l)}
	r.Dial = way.dial
	router, _ := start(t, r)
	router.Originate([]topology.Route{route("198.18.0.0/20", 0, 0)})
	routes(t, appliance, "198.18.0.0/20 0 0")
	way.cut()
	routes(t, appliance)
}

// A router's operator who shuts the session down means it: the routes are not kept,
// and what the operator wrote is told, after further attempts too. A reset is none.
func TestAShutdownTakesTheRoutesAway(t *testing.T) {
	for name, c := range map[string]struct {
		last  []byte
		keeps bool
		says  string
	}{
		"shut down":           {append([]byte{6, 2, 8}, "MW-12\xff\n3 and more"...), false, "cease, shut down (6/2): \"MW-12\ufffd\\n3\""},
		"a text that is less": {[]byte{6, 2, 200, 'a'}, false, "cease, shut down (6/2)"},
		"neighbour removed":   {[]byte{6, 3, 2, 'n', 'o'}, false, "cease, neighbour removed (6/3)"},
		"hard reset":          {[]byte{6, 9, 6, 4}, false, "cease, hard reset (6/9)"},
		"reset":               {[]byte{6, 4, 4, 'b', 'a', 'c', 'k'}, true, "cease, reset (6/4): \"back\""},
		"hold timer":          {[]byte{4, 0}, true, "hold timer expired (4/0)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, l := serveOne(t, nil)
			r := greet(t, l, routerAS)
			r.write(packet.NewBGPKeepAliveMessage())
			r.body(packet.BGP_MSG_UPDATE, update(whole, 20, 198, 18, 0))
			routes(t, s, "198.18.0.0/20 0 0")
			r.body(packet.BGP_MSG_NOTIFICATION, c.last)
			said := "the neighbour ended the session: " + c.says
			await(t, func() string {
				if st := s.State(); st.Established || st.Error != said {
					return fmt.Sprintf("%+v, want %s", st, said)
				}
				return ""
			})
			if c.keeps {
				routes(t, s, "198.18.0.0/20 0 0")
			} else {
				routes(t, s)
			}
			stranger := greet(t, l, 65000)
			if got := stranger.reason(); got != "2/2" {
				t.Errorf("a stranger was told %s", got)
			}
			await(t, func() string {
				if st := s.State(); st.Error != said+"; then: the neighbour is of AS 65000, not 4200000001" {
					return fmt.Sprintf("%+v", st)
				}
				return ""
			})
		})
	}
}

// One that announces too much is not heard for a while, and nothing of it is used:
// it would come back and do so again.
func TestTooManyRoutesEndTheSession(t *testing.T) {
	s, l := serveOne(t, func(c *bgp.Config) { c.MaxRoutes = 1 })
	r := greet(t, l, routerAS)
	r.write(packet.NewBGPKeepAliveMessage())
	r.body(packet.BGP_MSG_UPDATE, update(whole, 24, 198, 18, 0, 24, 198, 18, 1))
	if got := r.reason(); got != "6/1" {
		t.Errorf("told %s, want 6/1", got)
	}
	routes(t, s)
	again := greet(t, l, routerAS)
	again.write(packet.NewBGPKeepAliveMessage())
	if got := again.reason(); got != "6/1" {
		t.Errorf("told %s when it came back, want 6/1", got)
	}
	await(t, func() string {
		if st := s.State(); st.Sessions != 1 || !strings.Contains(st.Error, "more than 1 prefixes; then: the neighbour announced too much") {
			return fmt.Sprintf("%+v", st)
		}
		return ""
	})
}

// A neighbour that ends every session as soon as it is up is not dialled again and
// again at once.
func TestASessionThatIsOfNoUseDoesNotShortenTheWait(t *testing.T) {
	l := listen(t)
	defer l.Close()
	c := config(applianceAS, routerAS, "10.0.0.1")
	c.RetryMax = time.Hour
	var dials atomic.Int32
	c.Dial = func(ctx context.Context) (net.Conn, error) {
		dials.Add(1)
		return dialTo(l)(ctx)
	}
	s, _ := start(t, c)
	began := time.Now()
	const sessions = 9
	for range sessions {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		r := raw{t, conn}
		r.open(routerAS, 30, "10.0.0.9")
		r.write(packet.NewBGPKeepAliveMessage())
		r.body(packet.BGP_MSG_NOTIFICATION, []byte{6, 4})
		r.reason()
		conn.Close()
	}
	// Eight waits that begin at 1 ms and double come to half of 255 ms at least.
	if d := time.Since(began); d < 255*time.Millisecond/2 || s.State().Sessions > sessions {
		t.Errorf("%d sessions within %v", dials.Load(), d)
	}
}
