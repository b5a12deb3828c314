package lab

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/lab/pki"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/topology"
)

// edgeWorld is a wiring that knows a world and has no units yet.
func edgeWorld(t *testing.T) (*Wiring, *shared) {
	t.Helper()
	certs, err := pki.New("test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	world, err := newShared(runtime.World{
		Lab: "test", ID: "test", Key: make([]byte, 32), CAPEM: certs.CA, CertPEM: certs.Cert, KeyPEM: certs.Key,
	})
	if err != nil {
		t.Fatal(err)
	}
	w := newWiring(slog.DiscardHandler, nil)
	w.world.Store(world)
	return w, world
}

// edgeOf the world is a unit there.
func edgeOf(w *Wiring, world *shared, id string) *unit {
	return &unit{w: w, spec: runtime.Spec{Instance: topology.Instance{ID: id}}, world: world}
}

// greet answers TLS handshakes on loopback and says hello.
func greet(t *testing.T, config *tls.Config) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config = config.Clone() // as a server does that adds to it
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			s := tls.Server(conn, config)
			_, _ = s.Write([]byte("hello"))
			_, _ = s.Read(make([]byte, 1)) // until the client leaves
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return ln.Addr().String()
}

// device has a client's view of the edges.
type device struct {
	t      *testing.T
	config *tls.Config
}

func newDevice(t *testing.T, world *shared) device {
	return device{t, &tls.Config{RootCAs: world.ca, ServerName: "play.flix.test", ClientSessionCache: tls.NewLRUClientSessionCache(4)}}
}

// meet connects and reads the greeting, and the ticket before it.
func (d device) meet(addr string) (resumed bool, err error) {
	d.t.Helper()
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		d.t.Fatal(err)
	}
	defer raw.Close()
	conn := tls.Client(raw, d.config)
	_, err = io.ReadFull(conn, make([]byte, 5))
	return conn.ConnectionState().DidResume, err
}

func (d device) want(what, addr string, resumed bool) {
	d.t.Helper()
	if got, err := d.meet(addr); err != nil || got != resumed {
		d.t.Errorf("%s: resumed %v, want %v (%v)", what, got, resumed, err)
	}
}

func TestEdgesOfAScopeResumeEachOthersSessions(t *testing.T) {
	t.Parallel()
	w, world := edgeWorld(t)
	first, second := greet(t, edgeOf(w, world, "gateway/1").tlsConfig("gateways of us-east")), greet(t, edgeOf(w, world, "gateway/2").tlsConfig("gateways of us-east"))
	far := greet(t, edgeOf(w, world, "gateway/3").tlsConfig("gateways of eu-west"))
	d := newDevice(t, world)
	d.want("a device that comes for the first time", first, false)
	d.want("at another of the region", second, true)
	d.want("in another region", far, false)
	d.want("another device", first, false)
}

// A device that could resume its session sees the certificate of an edge that a
// fault has expired, as every other does.
func TestAnExpiredCertificateIsSeenInSpiteOfATicket(t *testing.T) {
	t.Parallel()
	w, world := edgeWorld(t)
	sick, well := greet(t, edgeOf(w, world, "gateway/1").tlsConfig("gateways of us-east")), greet(t, edgeOf(w, world, "gateway/2").tlsConfig("gateways of us-east"))
	d := newDevice(t, world)
	d.want("before", sick, false)
	d.want("before, again", sick, true)
	w.faults.Store(&[]fault.Fault{{ID: "x", Until: time.Now().Add(time.Hour), Effect: fault.Effect{Expired: []string{"gateway/1"}}}})
	var wrong *tls.CertificateVerificationError
	if _, err := d.meet(sick); !errors.As(err, &wrong) {
		t.Errorf("a device with a ticket finds %v", err)
	}
	if _, err := newDevice(t, world).meet(sick); !errors.As(err, &wrong) {
		t.Errorf("a device without one finds %v", err)
	}
	d.want("at a sound one meanwhile", well, false) // package tls drops a ticket that was of no use
	w.faults.Store(&[]fault.Fault{})
	d.want("after", sick, true)
}

func TestTicketsAreTakenForTwoPeriods(t *testing.T) {
	t.Parallel()
	_, world := edgeWorld(t)
	var periods atomic.Int64
	clock := func() time.Time { return time.Unix(60, 0).Add(time.Duration(periods.Load()) * ticketsLast) }
	edge := func(scope string) string {
		tickets := newTickets(world.key, scope, clock)
		return greet(t, &tls.Config{Certificates: []tls.Certificate{world.cert}, WrapSession: tickets.wrap, UnwrapSession: tickets.unwrap})
	}
	ours, theirs := edge("a"), edge("a")
	for later, want := range []bool{true, true, false, false} {
		periods.Store(100)
		d := newDevice(t, world)
		d.want("at first", ours, false)
		periods.Add(int64(later))
		d.want(fmt.Sprintf("%d periods later", later), theirs, want)
	}
}
