package host

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/lab/runtime/runtimetest"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// unitFunc is a unit made of one function.
type unitFunc func(ctx context.Context, l net.Listener) error

type builtUnit struct {
	f unitFunc
	l net.Listener
}

func (u builtUnit) Serve(ctx context.Context) error { return u.f(ctx, u.l) }

// script is a factory whose n-th build of an instance is told by a test.
type script struct {
	mu     sync.Mutex
	builds map[string][]time.Time
	build  func(id string, n int) (unitFunc, error)
}

func (*script) SetWorld(runtime.World) error { return nil }
func (*script) Close(context.Context) error  { return nil }
func (s *script) Build(spec runtime.Spec, ls Listeners) (services.Unit, error) {
	s.mu.Lock()
	s.builds[spec.ID] = append(s.builds[spec.ID], time.Now())
	n := len(s.builds[spec.ID])
	s.mu.Unlock()
	f, err := s.build(spec.ID, n)
	if err != nil {
		return nil, err
	}
	return builtUnit{f, ls.TCP[topology.PortRPC]}, nil
}

func (s *script) times(id string) []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.builds[id])
}

// untilDone serves nothing and ends in order.
func untilDone(ctx context.Context, l net.Listener) error {
	<-ctx.Done()
	return l.Close()
}

func newHost(t *testing.T, build func(id string, n int) (unitFunc, error)) (*Host, *script) {
	s := &script{builds: map[string][]time.Time{}, build: build}
	h := New("north", s, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { h.stopAll(context.Background()) })
	return h, s
}

func stateOf(h *Host, id string) runtime.Instance {
	for _, i := range h.list() {
		if i.Spec.ID == id {
			return i
		}
	}
	return runtime.Instance{}
}

// patience only bounds a test that would hang.
const patience = time.Minute

func awaitState(t *testing.T, h *Host, id string, ok func(runtime.Instance) bool) runtime.Instance {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		i := stateOf(h, id)
		if ok(i) {
			return i
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is %s after %d restarts (%s)", id, i.State, i.Restarts, i.Error)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// TestRestartsWithBackoff ends a unit three times in the three ways there are
// and fails one build: it comes back each time, later each time.
func TestRestartsWithBackoff(t *testing.T) {
	data := t.TempDir()
	a, b := runtimetest.Spec(t, data, "north", 1), runtimetest.Spec(t, data, "north", 2)
	seen := make(chan struct{}) // each failure, before the build that follows is done
	h, s := newHost(t, func(id string, n int) (unitFunc, error) {
		if id == b.ID {
			return untilDone, nil
		}
		if n > 1 {
			select {
			case <-seen:
			case <-t.Context().Done(): // the test has failed
			}
		}
		switch n {
		case 1:
			return func(context.Context, net.Listener) error { return errors.New("broken") }, nil
		case 2:
			return func(context.Context, net.Listener) error { panic("worse") }, nil
		case 3:
			return nil, errors.New("not even built")
		}
		return untilDone, nil
	})
	if err := h.start(t.Context(), []runtime.Spec{a, b}); err != nil {
		t.Fatal(err)
	}
	failed := awaitState(t, h, a.ID, func(i runtime.Instance) bool { return i.State == runtime.Failed })
	if failed.Error != "broken" {
		t.Errorf("error %q", failed.Error)
	}
	// A failed one is being seen to already: Start leaves it alone.
	if err := h.start(t.Context(), []runtime.Spec{a}); err != nil {
		t.Errorf("start beside a restart: %v", err)
	}
	seen <- struct{}{}
	awaitState(t, h, a.ID, func(i runtime.Instance) bool { return strings.Contains(i.Error, "panic: worse") })
	seen <- struct{}{}
	awaitState(t, h, a.ID, func(i runtime.Instance) bool { return i.Error == a.ID+": not even built" })
	seen <- struct{}{}
	up := awaitState(t, h, a.ID, func(i runtime.Instance) bool { return i.State == runtime.Running && i.Restarts == 2 })
	if up.Error != "" {
		t.Errorf("it runs with error %q", up.Error)
	}
	at := s.times(a.ID)
	for k, least := range []time.Duration{restartFirst, 2 * restartFirst, 4 * restartFirst} {
		if pause := at[k+1].Sub(at[k]); pause < least {
			t.Errorf("pause %d lasted %s, want at least %s", k+1, pause, least)
		}
	}
	if i := stateOf(h, b.ID); i.State != runtime.Running || i.Restarts != 0 {
		t.Errorf("its neighbour is %s after %d restarts", i.State, i.Restarts)
	}
}

// TestStopDuringBackoff ends an instance that waits for its restart: at once.
func TestStopDuringBackoff(t *testing.T) {
	data := t.TempDir()
	a := runtimetest.Spec(t, data, "north", 1)
	h, s := newHost(t, func(string, int) (unitFunc, error) {
		return func(context.Context, net.Listener) error { return errors.New("broken") }, nil
	})
	if err := h.start(t.Context(), []runtime.Spec{a}); err != nil {
		t.Fatal(err)
	}
	awaitState(t, h, a.ID, func(i runtime.Instance) bool { return i.State == runtime.Failed && i.Restarts >= 1 })
	if err := h.stop(t.Context(), []string{a.ID}, time.Second); err != nil {
		t.Fatal(err)
	}
	n := len(s.times(a.ID))
	if i := stateOf(h, a.ID); i.State != runtime.Stopped {
		t.Errorf("state %s", i.State)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(a.Address, strconv.Itoa(a.PortNumbers[topology.PortRPC])))
	if err != nil {
		t.Errorf("its port is still taken: %v", err)
	} else {
		_ = l.Close()
	}
	if now := len(s.times(a.ID)); now != n {
		t.Error("it was built again after its stop")
	}
}

// TestGraceEnds checks that a unit which waits for its clients loses them when
// its grace is over.
func TestGraceEnds(t *testing.T) {
	data := t.TempDir()
	a := runtimetest.Spec(t, data, "north", 1)
	h, _ := newHost(t, func(string, int) (unitFunc, error) {
		return func(ctx context.Context, l net.Listener) error {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			<-ctx.Done()
			_, err = c.Read(make([]byte, 1)) // the client says nothing
			if err == nil {
				return errors.New("the client said something")
			}
			return nil
		}, nil
	})
	if err := h.start(t.Context(), []runtime.Spec{a}); err != nil {
		t.Fatal(err)
	}
	c := dial(t, a)
	start := time.Now()
	if err := h.stop(t.Context(), []string{a.ID}, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 50*time.Millisecond {
		t.Errorf("the grace ended after %s", took)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client got %v, want a reset", err)
	}
}

// TestKilledIsNotFailed checks what a kill leaves in List: no error, no
// restart, and that the unit can tell it from an orderly end.
func TestKilledIsNotFailed(t *testing.T) {
	data := t.TempDir()
	a := runtimetest.Spec(t, data, "north", 1)
	cause := make(chan error, 1)
	h, s := newHost(t, func(string, int) (unitFunc, error) {
		return func(ctx context.Context, l net.Listener) error {
			for {
				c, err := l.Accept()
				if err != nil {
					cause <- context.Cause(ctx)
					return err
				}
				_ = c.Close()
			}
		}, nil
	})
	if err := h.start(t.Context(), []runtime.Spec{a}); err != nil {
		t.Fatal(err)
	}
	if err := h.kill([]string{a.ID}); err != nil {
		t.Fatal(err)
	}
	if got := <-cause; !errors.Is(got, ErrKilled) {
		t.Errorf("when its sockets went the unit's context had ended with %v, want ErrKilled", got)
	}
	if i := stateOf(h, a.ID); i.State != runtime.Stopped || i.Error != "" || i.Restarts != 0 {
		t.Errorf("after a kill: %s, error %q, %d restarts", i.State, i.Error, i.Restarts)
	}
	if n := len(s.times(a.ID)); n != 1 {
		t.Errorf("it was built %d times", n)
	}
}

func dial(t *testing.T, s runtime.Spec) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", net.JoinHostPort(s.Address, strconv.Itoa(s.PortNumbers[topology.PortRPC])))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSocketsReset checks what a client sees at the end of an instance: a
// reset, never the end of file that an orderly close sends.
func TestSocketsReset(t *testing.T) {
	data := t.TempDir()
	spec := runtimetest.Spec(t, data, "north", 1)
	ls, socks, err := listen(spec)
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, spec)
	in, err := ls.TCP[topology.PortRPC].Accept()
	if err != nil {
		t.Fatal(err)
	}
	raw, ok := in.(*net.TCPConn)
	if !ok {
		t.Fatalf("a role gets a %T: sendfile needs the raw *net.TCPConn", in)
	}
	if _, err := io.WriteString(raw, "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	socks.reset()
	socks.reset() // it may come twice
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client got %v, want a reset", err)
	}
	if _, err := ls.TCP[topology.PortRPC].Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener: %v", err)
	}
	if _, err := net.Dial("tcp", c.RemoteAddr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new connection: %v, want it refused", err)
	}
}

// TestAcceptedWhileDying gives a dead instance one more connection: it is
// reset as well.
func TestAcceptedWhileDying(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s := &sockets{conns: map[*net.TCPConn]bool{}}
	s.reset()
	s.add(in.(*net.TCPConn), true)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client got %v, want a reset", err)
	}
}

// TestClosedConnectionsAreForgotten keeps the memory of an instance that has
// answered many short connections bounded.
func TestClosedConnectionsAreForgotten(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := &sockets{conns: map[*net.TCPConn]bool{}}
	for range 2*sweepEvery + 10 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		s.add(c.(*net.TCPConn), true)
	}
	if n := len(s.conns); n > sweepEvery {
		t.Errorf("%d closed connections are remembered", n)
	}
	s.reset()
}

func TestListenDNSAndConflicts(t *testing.T) {
	data := t.TempDir()
	dns := runtimetest.Spec(t, data, "north", 1)
	dns.Role, dns.Ports, dns.PortNumbers = topology.RoleDNS, []string{topology.PortClient}, map[string]int{topology.PortClient: dns.PortNumbers[topology.PortRPC]}
	ls, socks, err := listen(dns)
	if err != nil {
		t.Fatal(err)
	}
	udp := ls.UDP[topology.PortClient]
	if udp == nil || udp.LocalAddr().(*net.UDPAddr).Port != dns.PortNumbers[topology.PortClient] {
		t.Errorf("DNS has no datagrams at its port: %v", udp)
	}
	// A second instance whose last port is taken gives its first one back.
	free := runtimetest.Spec(t, data, "north", 2)
	two := free
	two.Ports, two.PortNumbers = []string{topology.PortRPC, topology.PortHTTP}, map[string]int{
		topology.PortRPC: free.PortNumbers[topology.PortRPC], topology.PortHTTP: dns.PortNumbers[topology.PortClient],
	}
	if _, _, err := listen(two); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), two.ID+": port http") {
		t.Errorf("a port that is taken: %v", err)
	}
	_, again, err := listen(free)
	if err != nil {
		t.Errorf("the port beside it was not given back: %v", err)
	} else {
		again.reset()
	}
	socks.reset()
	if _, _, err := udp.ReadFrom(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("datagrams after the end: %v", err)
	}
}
