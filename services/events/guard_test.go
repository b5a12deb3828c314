package events

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// frame is a request of n bytes after its size.
func frame(n uint32, key uint16) []byte {
	b := binary.BigEndian.AppendUint32(nil, n)
	b = binary.BigEndian.AppendUint16(b, key)
	return append(b, make([]byte, max(int(n)-2, 0))...)
}

func TestGuardFollowsFrames(t *testing.T) {
	good := append(append(frame(20, 18), frame(8, 3)...), frame(100, 0)...)
	for _, tc := range []struct {
		name string
		in   []byte
		err  error
	}{
		{"requests", good, nil},
		{"unknown key", append(good[:24:24], frame(8, 9999)...), errNotKafka},
		{"too large", []byte{0x7f, 0xff, 0xff, 0xff}, errNotKafka},
		{"too small", frame(7, 3), errNotKafka},
		{"another protocol", []byte("GET / HTTP/1.1\r\n"), errNotKafka},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for step := 1; step <= len(tc.in); step++ {
				var c guardedConn
				var err error
				for b := tc.in; len(b) > 0 && err == nil; {
					n := min(step, len(b))
					err = c.check(b[:n])
					b = b[n:]
				}
				if !errors.Is(err, tc.err) {
					t.Fatalf("in steps of %d: %v, want %v", step, err, tc.err)
				}
			}
		})
	}
}

func FuzzGuard(f *testing.F) {
	f.Add(append(frame(20, 18), frame(8, 3)...), uint8(3))
	f.Add([]byte("GET / HTTP/1.1\r\n"), uint8(1))
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		var whole, parts guardedConn
		want := whole.check(in)
		var got error
		for b := in; len(b) > 0 && got == nil; {
			n := min(int(step)+1, len(b))
			got = parts.check(b[:n])
			b = b[n:]
		}
		if !errors.Is(got, want) {
			t.Errorf("in parts %v, as a whole %v", got, want)
		}
	})
}

// A client that does not speak Kafka is cut off, and the broker lives on.
func TestStrangerIsCutOff(t *testing.T) {
	ctx, b := soon(t), newBroker(t)
	for _, in := range [][]byte{frame(8, 9999), {0xff, 0xff, 0xff, 0xff}, []byte("get a\r\n\r\n")} {
		c, err := net.Dial("tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(in); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.ErrNoProgress) {
			t.Errorf("%q got an answer", in)
		} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
			t.Errorf("%q kept its connection", in)
		}
		_ = c.Close()
	}
	if n := endOffsets(ctx, t, b.addr, TopicFill); n != 0 {
		t.Errorf("end offset %d of an empty topic", n)
	}
}

// Nobody is let in before the broker has its topics: what was sent to one that
// is not there yet would be lost.
func TestGuardLetsNobodyInBeforeItIsOpen(t *testing.T) {
	for _, open := range []bool{true, false} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		g, err := newGuard(ln, "")
		if err != nil {
			t.Fatal(err)
		}
		client, err := net.Dial("tcp", ln.Addr().String()) // it waits to be accepted
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan error, 1)
		go func() {
			c, err := g.Accept()
			if err == nil {
				_ = c.Close()
			}
			got <- err
		}()
		if open {
			g.open()
		} else if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-got; open && err != nil || !open && !errors.Is(err, net.ErrClosed) {
			t.Errorf("open %t: %v", open, err)
		}
		_ = client.Close()
		g.shut()
	}
}
