package wan

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// pipeOver returns both ends of a delayed in-memory connection; the delay is
// taken from path on every byte.
func pipeOver(path func() Path) (near *stream, far net.Conn) {
	a, b := net.Pipe()
	return newStream(a, path, path), b
}

// pipeAcross is pipeOver for a flow of a table, from east to west.
func pipeAcross(table *Table, addr string) (near *stream, far net.Conn, f flow) {
	f = flow{t: table, from: Site{Region: "east"}, addr: addr, region: "west"}
	a, b := net.Pipe()
	return newStream(a, f.path(false), f.path(true)), b, f
}

// hangUp closes both ends and waits, in fake time, for the delayed goodbye.
func hangUp(near *stream, far net.Conn) {
	near.Close()
	_, _ = io.Copy(io.Discard, far)
	far.Close()
	synctest.Wait()
}

func TestEachDirectionTakesHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pipeOver(func() Path { return Path{RTT: time.Second} })
		defer hangUp(near, far)
		start := time.Now()
		b := make([]byte, 1)
		if _, err := near.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if since := time.Since(start); since != 0 {
			t.Errorf("a write took %v: it must not wait for delivery", since)
		}
		_, _ = io.ReadFull(far, b)
		if since := time.Since(start); since != 500*time.Millisecond {
			t.Errorf("arrived after %v, want 500ms", since)
		}
		_, _ = far.Write(b)
		_, _ = io.ReadFull(near, b)
		if since := time.Since(start); since != time.Second {
			t.Errorf("the answer arrived after %v, want 1s", since)
		}
	})
}

func TestShorterDelayKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := time.Second
		near, far := pipeOver(func() Path { return Path{RTT: d} })
		defer hangUp(near, far)
		_, _ = near.Write([]byte("slow "))
		d = 0
		_, _ = near.Write([]byte("fast"))
		b := make([]byte, 9)
		if _, err := io.ReadFull(far, b); err != nil || string(b) != "slow fast" {
			t.Errorf("got %q, %v", b, err)
		}
	})
}

func TestCloseDeliversThenEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pipeOver(func() Path { return Path{RTT: time.Second} })
		start := time.Now()
		_, _ = near.Write([]byte("last words"))
		if err := near.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := near.Write([]byte("more")); err == nil {
			t.Error("a closed connection took more bytes")
		}
		b, err := io.ReadAll(far)
		if err != nil || string(b) != "last words" {
			t.Errorf("got %q, %v", b, err)
		}
		if since := time.Since(start); since != 500*time.Millisecond {
			t.Errorf("ended after %v, want 500ms", since)
		}
		far.Close()
	})
}

func TestCloseGivesUpOnADeafPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pipeOver(func() Path { return Path{RTT: time.Second} })
		_, _ = near.Write([]byte("nobody reads this"))
		near.Close()
		time.Sleep(time.Second + linger) // fake time: the bubble fails if a goroutine stays
		synctest.Wait()
		far.Close()
	})
}

func TestWriterWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pipeOver(func() Path { return Path{RTT: time.Second, Rate: 8_000_000} })
		defer hangUp(near, far)
		start := time.Now()
		go func() { _, _ = io.Copy(io.Discard, far) }() // ends with the bubble's hangUp
		// 1 MB/s and a window of 1 MiB: 3 MB need at least 1.9 s to be taken.
		if _, err := near.Write(make([]byte, 3_000_000)); err != nil {
			t.Fatal(err)
		}
		if since := time.Since(start); since < 1900*time.Millisecond || since > 3*time.Second {
			t.Errorf("a write of 3 MB at 1 MB/s took %v", since)
		}
	})
}

func TestReadBufferHoldsTheSenderBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pipeOver(func() Path { return Path{RTT: time.Second} })
		defer hangUp(near, far)
		if err := near.SetReadBuffer(10_000); err != nil {
			t.Fatal(err)
		}
		_ = far.SetWriteDeadline(time.Now().Add(time.Minute))
		n, err := far.Write(make([]byte, 1<<20)) // nobody reads
		if err == nil || n > 10_000+2*maxParcel {
			t.Errorf("the sender got rid of %d bytes, %v", n, err)
		}
	})
}

// TestFlowTakesTheTablesRoundTrip: an echo takes what the table says when it is
// sent, no less and no more.
func TestFlowTakesTheTablesRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable(topo(rtt, 0), nil)
		near, far, _ := pipeAcross(table, "127.0.0.1:1")
		defer hangUp(near, far)
		go echo(far) // ends with hangUp
		for _, want := range []time.Duration{rtt, 2 * rtt} {
			table.Set(topo(want, 0))
			if took := roundTrip(t, near); took != want {
				t.Errorf("an echo took %v, want %v", took, want)
			}
		}
	})
}

// TestThroughputIsNotBoundByDelay: a window of 64 KiB would need 16 s for what
// these copy.
func TestThroughputIsNotBoundByDelay(t *testing.T) {
	const size, most = 20 << 20, time.Second
	synctest.Test(t, func(t *testing.T) {
		near, far, _ := pipeAcross(NewTable(topo(50*time.Millisecond, 0), nil), "127.0.0.1:1")
		defer hangUp(near, far)
		start := time.Now()
		go func() { _, _ = io.CopyN(far, zeros{}, size) }() // as many as are read below
		if n, err := io.CopyN(io.Discard, near, size); err != nil {
			t.Fatalf("read %d bytes, %v", n, err)
		}
		if took := time.Since(start); took > most {
			t.Errorf("20 MiB down over 50 ms took %v", took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		near, far, _ := pipeAcross(NewTable(topo(50*time.Millisecond, 0), nil), "127.0.0.1:1")
		defer far.Close()
		start, got := time.Now(), make(chan int64, 1)
		go func() { n, _ := io.Copy(io.Discard, far); got <- n }()
		if _, err := io.CopyN(near, zeros{}, size); err != nil {
			t.Fatal(err)
		}
		near.Close() // must still deliver all of it
		if n := <-got; n != size {
			t.Errorf("the peer got %d bytes of %d", n, size)
		}
		if took := time.Since(start); took > most {
			t.Errorf("20 MiB up over 50 ms took %v", took)
		}
	})
}

func TestDeclaredBandwidthHolds(t *testing.T) {
	const size = 1 << 20
	synctest.Test(t, func(t *testing.T) {
		near, far, _ := pipeAcross(NewTable(topo(rtt, 40_000_000), nil), "127.0.0.1:1") // 5 MB/s: 210 ms
		defer hangUp(near, far)
		start := time.Now()
		go func() { _, _ = io.CopyN(far, zeros{}, size) }() // as many as are read below
		if n, err := io.CopyN(io.Discard, near, size); err != nil {
			t.Fatalf("read %d bytes, %v", n, err)
		}
		if took := time.Since(start); took < 229*time.Millisecond || took > 231*time.Millisecond {
			t.Errorf("1 MiB at 40 Mbit/s took %v, want about 230 ms", took)
		}
	})
}

// TestHoleLapses swallows what is sent, and gives it back when its time is over.
func TestHoleLapses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable(topo(2*time.Millisecond, 0), nil)
		near, far, f := pipeAcross(table, "127.0.0.1:1")
		defer hangUp(near, far)
		go echo(far) // ends with hangUp
		end := time.Now().Add(150 * time.Millisecond)
		table.Impose([]Rule{{A: side("east"), B: side("west"), Until: end, Hole: true}})
		if _, err := ping(near, 30*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("something came through a hole: %v", err)
		}
		short, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		if err := table.passable(short, f); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dialling through a hole gives %v", err)
		}
		if err := table.passable(t.Context(), f); err != nil || time.Now().Before(end) {
			t.Errorf("dialling goes on %s before the end of the hole, %v", time.Until(end), err)
		}
		// The byte that the hole swallowed comes first.
		_ = near.SetDeadline(time.Now().Add(soon))
		if _, err := io.ReadFull(near, make([]byte, 1)); err != nil {
			t.Fatalf("what was swallowed does not come: %v", err)
		}
		if late := time.Since(end); late < 0 || late > lookAgain {
			t.Errorf("it came %s after the end of the hole", late)
		}
		if took, err := ping(near, soon); err != nil || took != 2*time.Millisecond {
			t.Errorf("after the hole a round trip takes %v, %v", took, err)
		}
	})
}

// TestCloseDropsWhatAReaderHasSeen: a reader that found bytes at the head when
// the connection was closed takes nothing.
func TestCloseDropsWhatAReaderHasSeen(t *testing.T) {
	q := newQueue(func() Path { return Path{} })
	q.push(parcel{data: []byte("late")})
	seen, _ := q.head()
	q.clear()
	q.take(len(seen.data))
	q.push(parcel{err: io.EOF}) // as the receiver says that the connection ended
	q.take(len(seen.data))
	if p, ok := q.head(); !ok || p.err != io.EOF || q.bytes != 0 {
		t.Errorf("the head is %+v, %v, with %d bytes under way", p, ok, q.bytes)
	}
}
