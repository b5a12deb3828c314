package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// ends are a socket on a connection, the connection, and its peer.
func ends(t *testing.T) (*socket, *net.TCPConn, net.Conn) {
	if !hasSockets {
		t.Skip("there are none here")
	}
	taken := make(chan net.Conn, 1)
	addr := listening(t, func(c net.Conn) { taken <- c })
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	peer := <-taken
	t.Cleanup(func() { _ = c.Close(); _ = peer.Close() })
	tcp := c.(*net.TCPConn)
	return newSocket(tcp), tcp, peer
}

// More than the system takes at once goes out whole and in order, however the
// pieces are cut.
func TestSocketWritesAll(t *testing.T) {
	s, tcp, peer := ends(t)
	_ = tcp.SetWriteBuffer(64 << 10)
	big := make([]byte, 4<<20)
	for i := range big {
		big[i] = byte(i * 7 >> 5)
	}
	got := make(chan []byte, 1)
	go func() { b, _ := io.ReadAll(peer); got <- b }()
	err := errors.Join(s.Writev(nil, big[:1], nil), s.Writev(big[1:3], big[3:3<<20], big[3<<20:]), s.Writev(nil, nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.Write(big); n != len(big) || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	_ = tcp.CloseWrite()
	if b := <-got; !bytes.Equal(b, append(big[:len(big):len(big)], big...)) {
		t.Errorf("the peer got %d bytes, and not those that were sent", len(b))
	}
}

func TestSocketDeadlines(t *testing.T) {
	s, tcp, peer := ends(t)
	_ = tcp.SetDeadline(time.Now().Add(50 * time.Millisecond))
	b := make([]byte, 16)
	if n, err := s.Read(b); n != 0 || !isTimeout(err) {
		t.Errorf("a read of nothing: %d, %v", n, err)
	}
	lender := NewBuffers()
	if in, n, err := s.ask([]byte("x"), lender, smallBuffer); in != nil || n != 0 || !isTimeout(err) || errors.Is(err, errUsed) {
		t.Errorf("a question after the deadline: %d, %v", n, err)
	}
	_ = tcp.SetDeadline(time.Now().Add(50 * time.Millisecond))
	if in, n, err := s.borrow(lender, smallBuffer); in != nil || n != 0 || !isTimeout(err) {
		t.Errorf("a read of nothing that may borrow: %d, %v", n, err)
	}
	_ = tcp.SetDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := s.Write(make([]byte, 32<<20)); n == 32<<20 || !isTimeout(err) {
		t.Errorf("a write that nobody reads: %d, %v", n, err)
	}
	// Another deadline, and it goes on.
	_ = tcp.SetDeadline(time.Time{})
	_, _ = io.WriteString(peer, "late")
	if n, err := s.Read(b); string(b[:n]) != "late" || err != nil {
		t.Errorf("%q, %v", b[:n], err)
	}
}

func TestSocketEnds(t *testing.T) {
	s, _, peer := ends(t)
	_, _ = io.WriteString(peer, "end")
	_ = peer.(*net.TCPConn).CloseWrite()
	b := make([]byte, 2)
	for _, want := range []string{"en", "d"} {
		if n, err := s.Read(b); string(b[:n]) != want || err != nil {
			t.Errorf("%q, %v", b[:n], err)
		}
	}
	if n, err := s.Read(b); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	lender := NewBuffers()
	if in, n, err := s.borrow(lender, smallBuffer); in != nil || n != 0 || err != io.EOF {
		t.Errorf("at the end, borrowing: %d, %v", n, err)
	}
	if in, n, err := s.ask([]byte("x"), lender, smallBuffer); in != nil || n != 0 || !errors.Is(err, errUsed) {
		t.Errorf("a question after the end: %d, %v", n, err)
	}
	// Closing ends what is under way, and whatever comes later.
	var tcp *net.TCPConn
	s, tcp, peer = ends(t)
	done := make(chan error, 1)
	go func() { _, _, err := s.ask([]byte("question"), lender, smallBuffer); done <- err }()
	if n, err := io.ReadFull(peer, make([]byte, len("question"))); err != nil {
		t.Fatal(n, err)
	}
	_ = tcp.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a read that Close ended: %v", err)
	}
	if _, err := s.Read(b); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a read after Close: %v", err)
	}
	if _, err := s.Write(b); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a write after Close: %v", err)
	}
}

// What answers several questions is read into buffers that go back in between, and
// whoever waits has none.
func TestSocketBorrows(t *testing.T) {
	s, tcp, peer := ends(t)
	lender := NewBuffers()
	go func() {
		b := make([]byte, 16)
		for {
			n, err := peer.Read(b)
			if err != nil {
				return
			}
			_, _ = peer.Write(bytes.ToUpper(b[:n]))
		}
	}()
	for range 100 {
		head := append(lender.get(smallBuffer)[:0], "question"...)
		in, n, err := s.ask(head, lender, largeBuffer)
		if err != nil || string(in[:n]) != "QUESTION" || len(in) != largeBuffer {
			t.Fatalf("%q of %d, %v", in[:n], len(in), err)
		}
		lender.put(in)
	}
	for _, want := range []string{"ONE", "TWO"} {
		if _, err := s.Write(bytes.ToLower([]byte(want))); err != nil {
			t.Fatal(err)
		}
		in, n, err := s.borrow(lender, smallBuffer)
		if err != nil || string(in[:n]) != want {
			t.Fatalf("%q, %v", in[:n], err)
		}
		lender.put(in)
	}
	_ = tcp.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if in, n, err := s.borrow(lender, smallBuffer); in != nil || n != 0 || !isTimeout(err) {
		t.Errorf("who waited has a buffer of %d bytes: %v", len(in), err)
	}
}

// A quiet connection is one like any other to who uses it, and what is none of TCP
// stays what it is.
func TestQuietConnections(t *testing.T) {
	_, tcp, peer := ends(t)
	c := Quiet(tcp)
	if c == net.Conn(tcp) {
		t.Fatal("it is read and written as before")
	}
	if _, err := io.WriteString(c, "question"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 16)
	if n, err := peer.Read(b); string(b[:n]) != "question" || err != nil {
		t.Errorf("the peer got %q, %v", b[:n], err)
	}
	_, _ = io.WriteString(peer, "answer")
	if n, err := c.Read(b); string(b[:n]) != "answer" || err != nil {
		t.Errorf("%q, %v", b[:n], err)
	}
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := c.Read(b); n != 0 || !isTimeout(err) {
		t.Errorf("a read of nothing: %d, %v", n, err)
	}
	_ = c.SetReadDeadline(time.Time{})
	done := make(chan error, 1)
	go func() { _, err := c.Read(b); done <- err }()
	_ = c.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a read that Close ended: %v", err)
	}
	if n, err := peer.Read(b); n != 0 || err != io.EOF {
		t.Errorf("the peer after Close: %d, %v", n, err)
	}
	one, other := net.Pipe()
	t.Cleanup(func() { _ = one.Close(); _ = other.Close() })
	if Quiet(one) != one {
		t.Error("a pipe became something else")
	}
}
