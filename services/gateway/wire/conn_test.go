package wire

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// begun is a connection whose client has sent a request, and that client.
func begun(t *testing.T, limits Limits, request string) (*Conn, net.Conn) {
	taken := make(chan net.Conn, 1)
	client, err := net.Dial("tcp", listening(t, func(c net.Conn) { taken <- c }))
	if err != nil {
		t.Fatal(err)
	}
	nc := <-taken
	limits.MaxHeader, limits.Header, limits.Idle, limits.Linger = 8<<10, time.Minute, time.Minute, time.Second
	c := NewConn(nc, nc.(*net.TCPConn), true, nil, NewBuffers(), &limits)
	t.Cleanup(func() { c.Close(); _ = nc.Close(); _ = client.Close() })
	if _, err := io.WriteString(client, request); err != nil {
		t.Fatal(err)
	}
	if err := c.Await(time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := c.Next(new(Head)); err != nil {
		t.Fatal(err)
	}
	return c, client
}

const limit = 300 * time.Millisecond

// A client has time for each piece of a body from when it is asked for, whatever
// of it is here already.
func TestEachPieceOfABodyHasItsTime(t *testing.T) {
	c, client := begun(t, Limits{Body: limit, Write: time.Minute}, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	if _, err := io.WriteString(client, "5\r\nhello\r\n5"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(c.Body(), b); string(b) != "hello" || err != nil {
		t.Fatalf("%q, %v", b, err)
	}
	<-time.After(2 * limit)
	if _, err := io.WriteString(client, "\r\nworld\r\n0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c.Body()); string(b) != "world" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

// Each piece of an answer has its own time: a stream may be silent for longer than
// a client may take for one.
func TestEachPieceOfAnAnswerHasItsTime(t *testing.T) {
	c, client := begun(t, Limits{Body: time.Minute, Write: limit}, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	c.Begin(http.StatusOK, new(Fields), -1, false)
	for _, piece := range []string{"one", "two", "three"} {
		<-time.After(2 * limit)
		if err := c.Write([]byte(piece), true); err != nil {
			t.Fatalf("%s: %v", piece, err)
		}
	}
	<-time.After(2 * limit)
	if err := c.End(nil); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(client), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); string(b) != "onetwothree" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}
