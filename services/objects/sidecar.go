package objects

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sidecar"
	"github.com/flix-lab/flix/services/telemetry"
)

// SidecarConfig is what the unit beside a real S3 store needs.
type SidecarConfig struct {
	// Target is the store's host:port. A host name is resolved anew for every
	// connection.
	Target string
	// Listener is the door to the store, already bound: clients are told its
	// address, never the store's. The sidecar closes it.
	Listener net.Listener
	// Dir holds the count of bytes served; made if it is missing. One sidecar
	// at a time.
	Dir string
	// AccessKey and SecretKey sign the sidecar's own questions.
	AccessKey, SecretKey string
	// Dial opens connections to the store; nil for a plain dialer. The store
	// stands beside the sidecar: no WAN lies between.
	Dial services.DialFunc
	// OnHealth is called when the store begins and ceases to answer; may be
	// nil. See sidecar.Config.Changed.
	OnHealth func(healthy bool)
	// Tel are the instance's instruments.
	Tel *telemetry.Telemetry
}

// Sidecar stands beside an S3 store that knows nothing of the lab: it watches
// it, and is its door, at which it counts what Server counts, under the same
// names and with the same promise that no count is lost by a kill. It
// implements services.Unit.
type Sidecar struct {
	ln      net.Listener
	watch   *sidecar.Watch
	client  *Client
	egress  *egressLog
	door    *door
	http    *http.Server
	gate    gate
	release func() error
}

// NewSidecar makes a sidecar; it asks the store nothing yet. It fails with
// services.Conflict if another sidecar uses Dir. Whoever does not call Serve
// calls Close.
func NewSidecar(c SidecarConfig) (*Sidecar, error) {
	if c.Target == "" || c.Listener == nil || c.Dir == "" || c.AccessKey == "" || c.SecretKey == "" || c.Tel == nil {
		return nil, services.Errorf(services.Invalid, "objects.NewSidecar: Target, Listener, Dir, AccessKey, SecretKey and Tel are required")
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	// The watch tries again by itself.
	client, err := newClient(ClientConfig{Endpoint: StaticEndpoint(c.Target), AccessKey: c.AccessKey, SecretKey: c.SecretKey, Dial: c.Dial}, 1)
	if err != nil {
		return nil, err
	}
	watch, err := sidecar.New(sidecar.Config{Store: "s3", Probe: client.ping, Changed: c.OnHealth, Tel: c.Tel})
	if err != nil {
		return nil, err
	}
	egressBytes := newEgressCounter()
	egress, release, err := openLedger(c.Dir, egressBytes)
	if err != nil {
		return nil, services.Wrap("objects.NewSidecar", err)
	}
	s := &Sidecar{ln: c.Listener, watch: watch, client: client, egress: egress, release: sync.OnceValue(release)}
	s.door = newDoor(c.Target, c.Dial, c.Tel, egress)
	c.Tel.Metrics.MustRegister(egressBytes, s.door.requests)
	s.http = newHTTP(c.Tel, s.serveHTTP)
	return s, nil
}

// Healthy says whether the store answers.
func (s *Sidecar) Healthy() bool { return s.watch.Healthy() }

// Ready returns when the store answers, or fails when ctx ends before.
func (s *Sidecar) Ready(ctx context.Context) error { return s.watch.Wait(ctx) }

// EgressBytes returns the bytes of object data served out of a bucket through
// this door since Dir was made, over all restarts.
func (s *Sidecar) EgressBytes(bucket string) uint64 { return s.egress.total(bucket) }

// Serve watches the store and hands requests on to it until ctx ends, then
// cuts every connection and waits for the handlers. While the store does not
// answer, requests get S3's ServiceUnavailable.
func (s *Sidecar) Serve(ctx context.Context) error {
	watching, stopWatching := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { s.watch.Run(watching) })
	stop := context.AfterFunc(ctx, func() { _ = s.http.Close() })
	defer stop()
	err := s.http.Serve(s.ln)
	if !errors.Is(err, http.ErrServerClosed) {
		err = errors.Join(services.Wrap("objects.Sidecar", err), s.http.Close())
	} else {
		err = nil
	}
	stopWatching()
	wg.Wait()
	s.gate.shut()
	return errors.Join(err, s.free())
}

// Close releases a sidecar that was never served. It is harmless after Serve.
func (s *Sidecar) Close() error {
	err := s.ln.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return errors.Join(err, s.free())
}

func (s *Sidecar) free() error {
	s.door.close()
	s.client.Close()
	return s.release()
}

func (s *Sidecar) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.gate.enter() {
		refuse(w)
		return
	}
	defer s.gate.leave()
	s.door.serve(w, r)
}

// ping asks a store for its buckets, which takes a valid signature and its
// disk.
func (c *Client) ping(ctx context.Context) error {
	_, err := c.core.ListBuckets(ctx)
	return mapError("objects.ping", err)
}

// openLedger opens the egress log in a directory that belongs to one process
// at a time.
func openLedger(dir string, counter *prometheus.CounterVec) (l *egressLog, release func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, err
	}
	lock, err := root.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, nil, errors.Join(err, root.Close())
	}
	free := func() error { return errors.Join(lock.Close(), root.Close()) }
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, nil, errors.Join(services.Errorf(services.Conflict, "another sidecar uses %s", dir), free())
	}
	if err := root.MkdirAll(tempDir, 0o700); err != nil {
		return nil, nil, errors.Join(err, free())
	}
	if l, err = openEgressLog(root, counter); err != nil {
		return nil, nil, errors.Join(err, free())
	}
	return l, func() error { return errors.Join(l.close(), free()) }, nil
}
