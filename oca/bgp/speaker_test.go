package bgp_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	packet "github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/flix-lab/flix/oca/bgp"
	"github.com/flix-lab/flix/topology"
)

const (
	applianceAS = 64511
	routerAS    = 4200000001 // of four octets
)

func listen(t *testing.T) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func dialTo(l net.Listener) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
	}
}

func config(asn, peer uint32, id string) bgp.Config {
	return bgp.Config{ASN: asn, PeerASN: peer, ID: netip.MustParseAddr(id), Hold: 30 * time.Second, Stale: time.Hour, RetryMin: time.Millisecond, RetryMax: 10 * time.Millisecond}
}

// start serves a speaker; stop ends it and waits.
func start(t *testing.T, c bgp.Config) (s *bgp.Speaker, stop func()) {
	t.Helper()
	s, err := bgp.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return s, stop
}

func await(t *testing.T, what func() string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		why := what()
		if why == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("not in time: " + why)
		}
		<-tick.C
	}
}

func routes(t *testing.T, s *bgp.Speaker, want ...string) {
	t.Helper()
	await(t, func() string {
		var got []string
		for _, r := range s.Routes() {
			got = append(got, fmt.Sprintf("%v %d %d", r.Prefix, r.ASPath, r.MED))
		}
		slices.Sort(got)
		if slices.Equal(got, want) {
			return ""
		}
		return fmt.Sprintf("routes %q, want %q; %+v", got, want, s.State())
	})
}

func route(p string, path, med uint32) topology.Route {
	return topology.Route{Prefix: netip.MustParsePrefix(p), ASPath: path, MED: med}
}

func TestRoutesOfBothFamiliesAreLearnedAndWithdrawn(t *testing.T) {
	l := listen(t)
	c := config(applianceAS, routerAS, "10.0.0.1")
	c.Listener = l
	appliance, _ := start(t, c)
	r := config(routerAS, applianceAS, "10.0.0.2")
	r.Dial = dialTo(l)
	router, _ := start(t, r)
	router.Originate([]topology.Route{route("198.18.0.0/20", 0, 0), route("2001:db8::/48", 255, 7), route("198.18.16.0/20", 3, 1<<32-1)})
	routes(t, appliance, "198.18.0.0/20 0 0", "198.18.16.0/20 3 4294967295", "2001:db8::/48 255 7")
	router.Originate([]topology.Route{route("2001:db8::/48", 1, 7), route("198.18.0.0/20", 0, 0), route("198.18.0.0/20", 9, 0)})
	routes(t, appliance, "198.18.0.0/20 0 0", "2001:db8::/48 1 7")
	router.Originate(nil)
	routes(t, appliance)
	if n := appliance.State().Sessions; n != 1 {
		t.Errorf("%d sessions, want 1: changes are told in the one there is", n)
	}
}

func TestALargeTableIsLearned(t *testing.T) {
	l := listen(t)
	c := config(applianceAS, routerAS, "10.0.0.1")
	c.Listener = l
	appliance, _ := start(t, c)
	r := config(routerAS, applianceAS, "10.0.0.2")
	r.Dial = dialTo(l)
	router, _ := start(t, r)
	var table []topology.Route
	for i := range 5000 {
		table = append(table, topology.Route{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24), ASPath: uint32(i % 256)})
		table = append(table, topology.Route{Prefix: netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(i >> 8), byte(i)}), 128), MED: uint32(i % 3)})
	}
	router.Originate(table)
	await(t, func() string {
		if n := appliance.State().Routes; n != len(table) {
			return fmt.Sprintf("%d of %d routes", n, len(table))
		}
		return ""
	})
}

// Two that dial each other at once keep one session.
func TestCollision(t *testing.T) {
	la, lb := listen(t), listen(t)
	a, b := config(applianceAS, routerAS, "10.0.0.1"), config(routerAS, applianceAS, "10.0.0.2")
	a.Listener, a.Dial, b.Listener, b.Dial = la, dialTo(lb), lb, dialTo(la)
	one, _ := start(t, a)
	two, _ := start(t, b)
	two.Originate([]topology.Route{route("198.18.0.0/20", 0, 0)})
	routes(t, one, "198.18.0.0/20 0 0")
	if !one.State().Established || !two.State().Established {
		t.Errorf("%+v %+v", one.State(), two.State())
	}
}

// raw is a neighbour written by hand.
type raw struct {
	t *testing.T
	net.Conn
}

// greet connects to a speaker and comes as far as a session.
func greet(t *testing.T, l net.Listener, as uint32) raw {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	r := raw{t, c}
	r.open(as, 30, "10.0.0.9")
	return r
}

func (r raw) open(as uint32, hold uint16, id string) {
	r.t.Helper()
	caps := []packet.ParameterCapabilityInterface{packet.NewCapMultiProtocol(packet.RF_IPv4_UC), packet.NewCapMultiProtocol(packet.RF_IPv6_UC), packet.NewCapFourOctetASNumber(as)}
	m, err := packet.NewBGPOpenMessage(packet.AS_TRANS, hold, netip.MustParseAddr(id), []packet.OptionParameterInterface{packet.NewOptionParameterCapability(caps)})
	if err != nil {
		r.t.Fatal(err)
	}
	r.write(m)
}

func (r raw) write(m *packet.BGPMessage) {
	r.t.Helper()
	b, err := m.Serialize()
	if err == nil {
		_, err = r.Write(b)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// body writes an UPDATE byte by byte.
func (r raw) body(kind byte, body []byte) {
	r.t.Helper()
	b := append(bytes.Repeat([]byte{0xff}, 16), 0, 0, kind)
	b = append(b, body...)
	binary.BigEndian.PutUint16(b[16:], uint16(len(b)))
	if _, err := r.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

// reason reads on to the NOTIFICATION.
func (r raw) reason() string {
	r.t.Helper()
	for {
		head := make([]byte, 19)
		if _, err := io.ReadFull(r, head); err != nil {
			return err.Error()
		}
		body := make([]byte, int(binary.BigEndian.Uint16(head[16:]))-19)
		if _, err := io.ReadFull(r, body); err != nil {
			return err.Error()
		}
		if head[18] == packet.BGP_MSG_NOTIFICATION {
			return fmt.Sprintf("%d/%d", body[0], body[1])
		}
	}
}

func serveOne(t *testing.T, change func(*bgp.Config)) (*bgp.Speaker, net.Listener) {
	l := listen(t)
	c := config(applianceAS, routerAS, "10.0.0.1")
	c.Listener = l
	if change != nil {
		change(&c)
	}
	s, _ := start(t, c)
	return s, l
}

func TestANeighbourIsToldWhatIsWrong(t *testing.T) {
	keepalive := func(r raw) { r.write(packet.NewBGPKeepAliveMessage()) }
	update := func(body ...byte) func(raw) {
		return func(r raw) { keepalive(r); r.body(packet.BGP_MSG_UPDATE, body) }
	}
	for name, c := range map[string]struct {
		as   uint32
		hold uint16
		id   string
		then func(raw)
		want string
	}{
		"wrong AS":            {as: 65000, want: "2/2"},
		"hold time too short": {hold: 2, want: "2/6"},
		"no identifier":       {id: "0.0.0.0", want: "2/3"},
		"no marker": {then: func(r raw) {
			_, _ = r.Write(make([]byte, 19))
		}, want: "1/1"},
		"unknown type":            {then: func(r raw) { r.body(99, nil) }, want: "1/3"},
		"keepalive with a body":   {then: func(r raw) { r.body(packet.BGP_MSG_KEEPALIVE, []byte{1}) }, want: "1/2"},
		"update before keepalive": {then: func(r raw) { r.body(packet.BGP_MSG_UPDATE, make([]byte, 4)) }, want: "5/2"},
		"second open":             {then: func(r raw) { keepalive(r); r.open(routerAS, 30, "10.0.0.9") }, want: "5/3"},
		"withdrawn past the end":  {then: update(0, 9, 0, 0), want: "3/1"},
		"attributes past the end": {then: update(0, 0, 0, 9), want: "3/1"},
		"prefix too long":         {then: update(0, 0, 0, 0, 33, 1, 2, 3, 4, 5), want: "3/10"},
		"silence":                 {hold: 3, then: keepalive, want: "4/0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, l := serveOne(t, nil)
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			r := raw{t, conn}
			as, hold, id := uint32(routerAS), uint16(30), "10.0.0.9"
			if c.as != 0 {
				as = c.as
			}
			if c.hold != 0 {
				hold = c.hold
			}
			if c.id != "" {
				id = c.id
			}
			r.open(as, hold, id)
			if c.then != nil {
				c.then(r)
			}
			if got := r.reason(); got != c.want {
				t.Errorf("told %s, want %s; %+v", got, c.want, s.State())
			}
			await(t, func() string {
				if why := s.State().Error; why == "" || why == "no router has connected yet" {
					return "the speaker does not say why: " + why
				}
				return ""
			})
		})
	}
}

// attribute is one path attribute.
func attribute(flags, kind byte, value ...byte) []byte {
	return append([]byte{flags, kind, byte(len(value))}, value...)
}

func update(attrs []byte, nlri ...byte) []byte {
	return append(append([]byte{0, 0, 0, byte(len(attrs))}, attrs...), nlri...)
}

// Malformed attributes withdraw the message's routes, or are dropped, and the
// session goes on (RFC 7606).
func TestMalformedUpdatesDoNotEndTheSession(t *testing.T) {
	origin, hop, path := attribute(0x40, 1, 0), attribute(0x40, 3, 127, 0, 0, 1), attribute(0x40, 2, 2, 1, 0xfa, 0x56, 0xea, 1)
	good := slices.Concat(origin, path, hop)
	nlri := []byte{20, 198, 18, 0}
	for name, c := range map[string]struct {
		attrs []byte
		want  []string
	}{
		"good":                        {good, []string{"198.18.0.0/20 0 0"}},
		"no origin":                   {slices.Concat(path, hop), nil},
		"bad origin":                  {slices.Concat(attribute(0x40, 1, 9), path, hop), nil},
		"next hop of no bytes":        {slices.Concat(origin, path, attribute(0x40, 3)), nil},
		"next hop of 16 bytes":        {slices.Concat(origin, path, attribute(0x40, 3, make([]byte, 16)...)), nil},
		"no path":                     {slices.Concat(origin, hop), nil},
		"path shorter than it says":   {slices.Concat(origin, attribute(0x40, 2, 2, 3, 0, 0, 0, 1), hop), nil},
		"own AS in the path":          {slices.Concat(origin, attribute(0x40, 2, 2, 2, 0xfa, 0x56, 0xea, 1, 0, 0, 0xfb, 0xff), hop), nil},
		"MED of three bytes":          {slices.Concat(good, attribute(0x80, 4, 1, 2, 3)), nil},
		"attribute past the end":      {slices.Concat(good, []byte{0x80, 4, 200, 1}), nil},
		"aggregator of a wrong size":  {slices.Concat(good, attribute(0xc0, 7, 1)), []string{"198.18.0.0/20 0 0"}},
		"an unknown optional one":     {slices.Concat(good, attribute(0xc0, 200, 1, 2)), []string{"198.18.0.0/20 0 0"}},
		"a set counts for one":        {slices.Concat(origin, attribute(0x40, 2, 2, 1, 0xfa, 0x56, 0xea, 1, 1, 2, 0, 0, 0, 1, 0, 0, 0, 2), hop), []string{"198.18.0.0/20 1 0"}},
		"the same origin a next time": {slices.Concat(good, origin), []string{"198.18.0.0/20 0 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, l := serveOne(t, nil)
			r := greet(t, l, routerAS)
			r.write(packet.NewBGPKeepAliveMessage())
			r.body(packet.BGP_MSG_UPDATE, update(good, nlri...)) // there is something to withdraw
			r.body(packet.BGP_MSG_UPDATE, update(c.attrs, nlri...))
			// The end is marked by a route of its own.
			r.body(packet.BGP_MSG_UPDATE, update(good, 24, 203, 0, 113))
			routes(t, s, append(slices.Clone(c.want), "203.0.113.0/24 0 0")...)
			if st := s.State(); st.Sessions != 1 || !st.Established {
				t.Errorf("%+v", st)
			}
		})
	}
}

func TestAnEstablishedSessionStays(t *testing.T) {
	s, l := serveOne(t, nil)
	if st := s.State(); st.Error != "no router has connected yet" {
		t.Errorf("%+v", st)
	}
	r := greet(t, l, routerAS)
	r.write(packet.NewBGPKeepAliveMessage())
	await(t, func() string {
		if !s.State().Established {
			return "no session"
		}
		return ""
	})
	if got := greet(t, l, routerAS).reason(); got != "6/7" {
		t.Errorf("the second was told %s, want 6/7", got)
	}
	if st := s.State(); !st.Established || st.Sessions != 1 {
		t.Errorf("%+v", st)
	}
}

func TestConfigIsChecked(t *testing.T) {
	l := listen(t)
	defer l.Close()
	for name, change := range map[string]func(*bgp.Config){
		"same AS": func(c *bgp.Config) { c.PeerASN = c.ASN }, "no AS": func(c *bgp.Config) { c.ASN = 0 }, "IPv6 identifier": func(c *bgp.Config) { c.ID = netip.IPv6Loopback() },
		"no way": func(c *bgp.Config) { c.Listener = nil }, "short hold": func(c *bgp.Config) { c.Hold = time.Second }, "no stale time": func(c *bgp.Config) { c.Stale = 0 },
	} {
		c := config(applianceAS, routerAS, "10.0.0.1")
		c.Listener = l
		change(&c)
		if _, err := bgp.New(c); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
