package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/flix-lab/flix/services/kv/kvpb"
	"github.com/flix-lab/flix/services/rpc"
	"github.com/flix-lab/flix/services/telemetry"
)

const (
	// firstBackoff is the pause after the first failure to reach a peer; it
	// doubles up to the breakers' sleep.
	firstBackoff = 10 * time.Millisecond
	// window is how many batches may be under way unacknowledged: with batches
	// of batchBytes, 2 MiB per round trip.
	window = 8
	// gathering is how long writes gather after a batch before the next one goes:
	// under load every write would otherwise be a message of its own to each
	// peer, an acknowledgement and a transaction there. One that comes after a
	// pause, or that somebody awaits, goes at once.
	gathering = 20 * time.Millisecond
	// stallFactor times the RPC timeout without an acknowledgement means that
	// the connection is dead, whatever TCP thinks of it.
	stallFactor = 4
	// ioBuffer is enough for a stream that carries small batches.
	ioBuffer = 8 << 10
)

// Metadata in which the receiver of a stream says who it is.
const (
	mdRegion = "flix-kv-region"
	mdStore  = "flix-kv-store"
)

// send streams to one peer until ctx ends, over as many connections as it
// takes.
func (l *replicator) send(ctx context.Context, p *peer, addr string) {
	backoff, down := firstBackoff, false
	for ctx.Err() == nil {
		progressed, err := l.stream(ctx, p, addr)
		if ctx.Err() != nil {
			return
		}
		if progressed {
			backoff, down = firstBackoff, false
		}
		if !down {
			l.tel.Log.Info("replication interrupted", "peer", p.name, "addr", addr, "err", err)
			down = true
		}
		timer := time.NewTimer(backoff)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		backoff = min(2*backoff, max(l.timing.BreakerSleep.D(), firstBackoff))
	}
}

// stream connects and sends until something fails. progressed says that the
// peer acknowledged something.
func (l *replicator) stream(ctx context.Context, p *peer, addr string) (progressed bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(l.stallAfter(), func() { cancel(errors.New("the peer does not answer")) })
	defer stall.Stop()

	conn, err := grpc.NewClient("passthrough:///"+addr, append(rpc.DialOptions(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, a string) (net.Conn, error) { return l.dial(ctx, "tcp", a) }), grpc.WithReadBufferSize(ioBuffer), grpc.WithWriteBufferSize(ioBuffer))...)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }() // the stream's error is the one that counts
	rpc, err := kvpb.NewKVClient(conn).Replicate(ctx)
	if err != nil {
		return false, explain(ctx, err)
	}
	if err := l.greet(rpc, p); err != nil {
		return false, explain(ctx, err)
	}
	f := l.newFlow(p, rpc, stall, cancel)
	var wg sync.WaitGroup
	wg.Go(func() { cancel(f.receive()) })
	err = f.pump(ctx)
	cancel(err)
	wg.Wait()
	if errors.Is(err, errGap) {
		err = errors.Join(err, f.rescan())
	}
	return f.progressed, explain(ctx, err)
}

// explain prefers the reason for which the stream was cancelled.
func explain(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return telemetry.FromStatus(err)
}

func (l *replicator) stallAfter() time.Duration { return stallFactor * l.timing.RPCTimeout.D() }

// greet reads who answered. Addresses are reused, so the region must be the
// one meant; and a store with another id than before has lost all it had.
func (l *replicator) greet(rpc kvpb.KV_ReplicateClient, p *peer) error {
	md, err := rpc.Header()
	if err != nil {
		return err
	}
	if got := first(md, mdRegion); got != p.name {
		// Without the header the call failed: Recv knows why.
		if got == "" {
			_, err := rpc.Recv()
			return err
		}
		return fmt.Errorf("the store of %s answers, not of %s", got, p.name)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	id := first(md, mdStore)
	if p.StoreID == id {
		return nil
	}
	p.StoreID = id
	return l.restartScan(p)
}

func first(md metadata.MD, key string) string {
	if v := md.Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}

// flow is the traffic of one stream: batches under way in the order sent.
type flow struct {
	l     *replicator
	p     *peer
	rpc   kvpb.KV_ReplicateClient
	stall *time.Timer
	abort context.CancelCauseFunc
	slots chan struct{}

	generation int
	pos        uint64 // everything up to here was sent
	scanning   bool
	cursor     []byte // the scan has sent everything up to here

	mu       sync.Mutex
	underway []batch

	progressed bool // read once receive has ended
}

func (l *replicator) newFlow(p *peer, rpc kvpb.KV_ReplicateClient, stall *time.Timer, abort context.CancelCauseFunc) *flow {
	l.mu.Lock()
	defer l.mu.Unlock()
	stall.Stop()
	p.generation++ // an earlier stream that still ends has no say any more
	return &flow{
		l: l, p: p, rpc: rpc, stall: stall, abort: abort, slots: make(chan struct{}, window),
		generation: p.generation, pos: p.Acked, scanning: p.Scanning, cursor: p.Cursor,
	}
}

// pump sends what is due, then waits for more.
func (f *flow) pump(ctx context.Context) error {
	for {
		more := f.l.appended.wait()
		if f.outdated() {
			return errors.New("the log was cut")
		}
		b, err := f.next()
		if err != nil {
			return err
		}
		if !b.due() {
			select {
			case <-more:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		select {
		case f.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := f.push(b); err != nil {
			return err
		}
		if !b.scanning && !b.full() {
			f.gather(ctx)
		}
	}
}

// gather lets writes come together until ctx ends, but none wait that somebody
// awaits.
func (f *flow) gather(ctx context.Context) {
	t := time.NewTimer(gathering)
	defer t.Stop()
	for {
		more := f.l.hurried.wait()
		if f.l.awaits(f.pos) {
			return
		}
		select {
		case <-more:
		case <-t.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (f *flow) outdated() bool {
	f.l.mu.Lock()
	defer f.l.mu.Unlock()
	return f.p.generation != f.generation
}

// rescan makes the peer get everything, unless that is settled already.
func (f *flow) rescan() error {
	f.l.mu.Lock()
	defer f.l.mu.Unlock()
	if f.p.generation != f.generation {
		return nil
	}
	return f.l.restartScan(f.p)
}

func (f *flow) push(b batch) error {
	f.mu.Lock()
	f.underway = append(f.underway, b)
	if len(f.underway) == 1 {
		f.stall.Reset(f.l.stallAfter())
	}
	f.mu.Unlock()
	return f.rpc.Send(&kvpb.ReplicateBatch{FromRegion: f.l.region, Position: b.pos, Mutations: b.muts})
}

// receive books acknowledgements until the stream ends. They come in the order
// of the batches.
func (f *flow) receive() error {
	for {
		ack, err := f.rpc.Recv()
		if err != nil {
			return err
		}
		b, ok := f.pop()
		if !ok || ack.GetPosition() != b.pos {
			return fmt.Errorf("the peer acknowledged position %d, which was not sent", ack.GetPosition())
		}
		<-f.slots
		f.progressed = true
		if err := f.book(b); err != nil {
			return err
		}
	}
}

func (f *flow) pop() (batch, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.underway) == 0 {
		return batch{}, false
	}
	b := f.underway[0]
	f.underway = f.underway[1:]
	if len(f.underway) == 0 {
		f.stall.Stop()
	} else {
		f.stall.Reset(f.l.stallAfter())
	}
	return b, true
}

// book keeps what a batch's acknowledgement means for the peer.
func (f *flow) book(b batch) error {
	f.l.mu.Lock()
	defer f.l.mu.Unlock()
	if f.p.generation != f.generation {
		return nil
	}
	f.p.Acked, f.p.Scanning, f.p.Cursor = b.pos, b.scanning, b.cursor
	return f.l.save(f.p)
}
