package wire

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// Each piece of an answer has its own time: a stream may be silent for longer than
// a client may take for one.
func TestEachPieceOfAnAnswerHasItsTime(t *testing.T) {
	const limit = 50 * time.Millisecond
	taken := make(chan net.Conn, 1)
	client, err := net.Dial("tcp", listening(t, func(c net.Conn) { taken <- c }))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	nc := <-taken
	defer nc.Close()
	c := NewConn(nc, nc.(*net.TCPConn), true, nil, NewBuffers(), &Limits{MaxHeader: 8 << 10, Header: time.Minute, Idle: time.Minute, Body: time.Minute, Write: limit, Linger: time.Second})
	defer c.Close()
	if _, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := c.Await(time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := c.Next(new(Head)); err != nil {
		t.Fatal(err)
	}
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
