package elb

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
	"go.uber.org/goleak"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/addresstest"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what is awaited.
const patience = time.Minute

// patient is the lab's timing without a bound that a busy machine would meet.
func patient() topology.Timing {
	timing := topology.LabTiming()
	timing.RPCTimeout = topology.Duration(patience)
	return timing
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addresstest.Host(t)+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// fakeGateway reads a PROXY header, then answers "id client|" followed by an
// echo of everything until the client's half-close.
type fakeGateway struct {
	id string
	l  net.Listener
}

func startGateway(t *testing.T, id string) *fakeGateway {
	t.Helper()
	g := &fakeGateway{id: id, l: listen(t)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := g.l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(patience))
				r := bufio.NewReader(c)
				h, err := proxyproto.Read(r)
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, id+" "+h.SourceAddr.String()+"|")
				_, _ = io.Copy(c, r)
			})
		}
	})
	t.Cleanup(func() { _ = g.l.Close(); wg.Wait() })
	return g
}

type harness struct {
	server       *Server
	client, http string
	stop         func()
}

func start(t *testing.T, timing topology.Timing, targets ...Target) *harness {
	t.Helper()
	return startDialling(t, nil, timing, targets...)
}

// startDialling is start with a dialer of its own.
func startDialling(t *testing.T, dial services.DialFunc, timing topology.Timing, targets ...Target) *harness {
	t.Helper()
	c, h := listen(t), listen(t)
	s, err := New(Deps{
		Client: c, HTTP: h, Zone: "a", Dial: dial, Tel: telemetry.Discard(), Timing: timing,
		Targets: func() []Target { return targets },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(patience):
			t.Error("Serve does not end")
		}
	})
	t.Cleanup(stop)
	return &harness{server: s, client: c.Addr().String(), http: h.Addr().String(), stop: stop}
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

func header(t *testing.T, source string) string {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", source)
	if err != nil {
		t.Fatal(err)
	}
	dst := &net.TCPAddr{IP: net.ParseIP("198.19.0.1"), Port: 443}
	if a.IP.To4() == nil {
		dst.IP = net.ParseIP("2001:db8::1")
	}
	b, err := proxyproto.HeaderProxyFromAddrs(2, a, dst).Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// ask sends what, half-closes and returns all that comes back.
func ask(t *testing.T, addr, what string) string {
	t.Helper()
	c := dial(t, addr)
	if _, err := io.WriteString(c, what); err != nil {
		t.Fatal(err)
	}
	_ = c.CloseWrite()
	b, _ := io.ReadAll(c) // a reset reads as what came before it
	return string(b)
}

func TestPassesClientAddressAndBytes(t *testing.T) {
	g := startGateway(t, "g1")
	h := start(t, patient(), Target{ID: "g1", Zone: "a", Addr: g.l.Addr().String()})
	big := strings.Repeat("flix", 1<<18)
	for _, client := range []string{"198.18.0.7:1234", "[2001:db8::7]:1234"} {
		if got, want := ask(t, h.client, header(t, client)+big), "g1 "+client+"|"+big; got != want {
			t.Errorf("got %d bytes starting %.40q, want %d starting %.40q", len(got), got, len(want), want)
		}
	}
}

func TestBrowserNeedsNoHeader(t *testing.T) {
	g := startGateway(t, "g1")
	h := start(t, patient(), Target{ID: "g1", Zone: "a", PlainAddr: g.l.Addr().String()})
	c := dial(t, h.http)
	_, _ = io.WriteString(c, "GET /")
	_ = c.CloseWrite()
	b, err := io.ReadAll(c)
	if want := "g1 " + c.LocalAddr().String() + "|GET /"; err != nil || string(b) != want {
		t.Errorf("got %q, %v; want %q", b, err, want)
	}
}

func TestRefusesWithoutHeader(t *testing.T) {
	g := startGateway(t, "g1")
	timing := topology.LabTiming()
	timing.RPCTimeout = topology.Duration(50 * time.Millisecond)
	h := start(t, timing, Target{ID: "g1", Zone: "a", Addr: g.l.Addr().String()})
	v1, err := (&proxyproto.Header{Version: 1, Command: proxyproto.PROXY, TransportProtocol: proxyproto.TCPv4,
		SourceAddr: &net.TCPAddr{IP: net.IPv4(198, 18, 0, 1), Port: 1}, DestinationAddr: &net.TCPAddr{IP: net.IPv4(198, 18, 0, 2), Port: 2}}).Format()
	if err != nil {
		t.Fatal(err)
	}
	for name, sent := range map[string]string{"tls": "\x16\x03\x01\x02\x00\x01", "v1": string(v1), "half a header": header(t, "198.18.0.7:1")[:20]} {
		if got := ask(t, h.client, sent); got != "" {
			t.Errorf("%s: got %q", name, got)
		}
	}
	silent := dial(t, h.client)
	if n, err := silent.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a silent client got %d bytes, %v", n, err)
	}
}

func TestPrefersOwnZoneAndFailsOver(t *testing.T) {
	own, other := startGateway(t, "own"), startGateway(t, "other")
	dead := listen(t)
	_ = dead.Close()
	h := start(t, patient(),
		Target{ID: "dead", Zone: "a", Addr: dead.Addr().String()},
		Target{ID: "own", Zone: "a", Addr: own.l.Addr().String()},
		Target{ID: "other", Zone: "b", Addr: other.l.Addr().String()})
	for range 20 {
		if got := ask(t, h.client, header(t, "198.18.0.7:1")+"x"); !strings.HasPrefix(got, "own ") {
			t.Fatalf("got %q, want the gateway of the own zone", got)
		}
	}
	_ = own.l.Close()
	for range 20 {
		if got := ask(t, h.client, header(t, "198.18.0.7:1")+"x"); !strings.HasPrefix(got, "other ") {
			t.Fatalf("got %q, want the other zone once the own is gone", got)
		}
	}
	_ = other.l.Close()
	if got := ask(t, h.client, header(t, "198.18.0.7:1")+"x"); got != "" {
		t.Errorf("no gateway is left, got %q", got)
	}
}

func TestIdleConnectionEnds(t *testing.T) {
	g := startGateway(t, "g1")
	timing := patient()
	// Long enough for the gateway's first bytes.
	timing.MaxConnectionAge = topology.Duration(2 * time.Second)
	h := start(t, timing, Target{ID: "g1", Zone: "a", Addr: g.l.Addr().String()})
	c := dial(t, h.client)
	_, _ = io.WriteString(c, header(t, "198.18.0.7:1"))
	if b, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(b), "g1 ") {
		t.Errorf("got %q, %v; want the end of the connection after its idle time", b, err)
	}
}

func TestServeEndsWithOpenConnections(t *testing.T) {
	g := startGateway(t, "g1")
	h := start(t, patient(), Target{ID: "g1", Zone: "a", Addr: g.l.Addr().String()})
	c := dial(t, h.client)
	_, _ = io.WriteString(c, header(t, "198.18.0.7:1"))
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	dial(t, h.client) // one more that has said nothing
	h.stop()
	if _, err := io.ReadAll(c); err != nil {
		t.Logf("the client sees %v", err) // a reset is as good as an end
	}
	if _, err := net.Dial("tcp", h.client); err == nil {
		t.Error("the listener is still open")
	}
}

func FuzzReadHeader(f *testing.F) {
	a := &net.TCPAddr{IP: net.IPv4(198, 18, 0, 1), Port: 1}
	good, err := proxyproto.HeaderProxyFromAddrs(2, a, a).Format()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(good, "early"...))
	f.Add([]byte("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n"))
	f.Add(append([]byte("\r\n\r\n\x00\r\nQUIT\n"), 0x20, 0, 0, 0))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		client, server := net.Pipe()
		go func() {
			_, _ = client.Write(b)
			_ = client.Close()
		}()
		defer server.Close()
		h, early, err := readHeader(server)
		if err != nil {
			return
		}
		if h.Version != 2 || len(early) > len(b) {
			t.Errorf("accepted %q as %+v with %d early bytes", b, h, len(early))
		}
		if h.Command.IsLocal() || h.TransportProtocol.IsUnspec() {
			return // a pipe has no addresses to say
		}
		if _, err := h.Format(); err != nil {
			t.Errorf("accepted header %+v cannot be passed on: %v", h, err)
		}
	})
}

// What lies between balancer and gateways, such as a partition, acts in the dialer.
func TestTargetsAreDialledByTheLabsDialer(t *testing.T) {
	far, near := startGateway(t, "far"), startGateway(t, "near")
	h := startDialling(t, func(ctx context.Context, network, addr string) (net.Conn, error) {
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("the balancer would wait forever")
		}
		if addr == far.l.Addr().String() {
			return nil, errors.New("it is cut off")
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}, patient(), Target{ID: "far", Zone: "a", Addr: far.l.Addr().String()}, Target{ID: "near", Zone: "b", Addr: near.l.Addr().String()})
	if got := ask(t, h.client, header(t, "198.18.0.7:1234")); !strings.HasPrefix(got, "near ") {
		t.Errorf("got %q, want an answer of the one that can be reached", got)
	}
}
