package wan

import (
	"io"
	"net"
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
