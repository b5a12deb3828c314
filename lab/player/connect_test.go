package player

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"
)

// recorded is a connection that remembers what was written, write by write.
type recorded struct {
	net.Conn
	writes [][]byte
	short  int // bytes that a write takes at most; 0: all
}

func (c *recorded) Write(b []byte) (int, error) {
	if c.short > 0 && len(b) > c.short {
		c.writes = append(c.writes, bytes.Clone(b[:c.short]))
		return c.short, net.ErrClosed
	}
	c.writes = append(c.writes, bytes.Clone(b))
	return len(b), nil
}

func (c *recorded) Close() error         { return nil }
func (c *recorded) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (c *recorded) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2} }

func TestWhoTheClientIsGoesOutWithTheFirstBytes(t *testing.T) {
	t.Parallel()
	client, addr := netip.MustParseAddr("198.18.0.7"), netip.MustParseAddrPort("127.0.0.1:2")
	open := func(raw *recorded) net.Conn {
		c := &connector{client: client, open: map[*tracked]struct{}{}, dial: func(context.Context, string, string) (net.Conn, error) { return raw, nil }}
		conn, err := c.tcp(context.Background(), addr)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	raw := &recorded{}
	header, err := proxyHeader(client, raw)
	if err != nil {
		t.Fatal(err)
	}
	conn := open(raw)
	if len(raw.writes) > 0 {
		t.Errorf("written before there is anything to say: %q", raw.writes)
	}
	for _, s := range []string{"hello", "again"} {
		if n, err := conn.Write([]byte(s)); n != len(s) || err != nil {
			t.Errorf("write %q: %d bytes, %v", s, n, err)
		}
	}
	if want := [][]byte{append(slices.Clone(header), "hello"...), []byte("again")}; !slices.EqualFunc(raw.writes, want, bytes.Equal) {
		t.Errorf("written %q, want %q", raw.writes, want)
	}
	for short, want := range map[int]int{3: 0, len(header): 0, len(header) + 2: 2} {
		if n, err := open(&recorded{short: short}).Write([]byte("hello")); n != want || err == nil {
			t.Errorf("of %d bytes taken %d are counted, want %d (%v)", short, n, want, err)
		}
	}
}
