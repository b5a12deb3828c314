package player

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
)

type netConn = net.Conn

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
}

func TestDropCountsBytes(t *testing.T) {
	b := newBuffers()
	if err := b.drop(strings.NewReader("12345"), 5); err != nil {
		t.Error(err)
	}
	if err := b.drop(strings.NewReader("1234"), 5); err != io.ErrUnexpectedEOF {
		t.Errorf("too few: %v", err)
	}
	if err := b.drop(strings.NewReader("123456"), 5); err == nil {
		t.Error("too many bytes pass")
	}
}
