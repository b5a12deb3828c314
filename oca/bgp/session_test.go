package bgp

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	packet "github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// stuck is a connection whose first write waits until a write deadline that is
// past interrupts it. Whoever sets that waits until told has ended, or for a
// while: long enough for an interrupted writer to come first, if it could.
type stuck struct {
	net.Conn
	writing, interrupted, told chan struct{}
	past                       atomic.Bool
	wrote                      []byte
}

func (c *stuck) Write(b []byte) (int, error) {
	select {
	case <-c.interrupted:
		c.wrote = append(c.wrote, b...)
		return len(b), nil
	default:
	}
	close(c.writing)
	<-c.interrupted
	return 0, os.ErrDeadlineExceeded
}

func (c *stuck) SetWriteDeadline(t time.Time) error {
	select {
	case <-c.writing:
	default:
		return nil
	}
	if c.past.Swap(true) {
		return nil
	}
	close(c.interrupted)
	select {
	case <-c.told:
	case <-time.After(100 * time.Millisecond):
	}
	return nil
}

func (c *stuck) Close() error { return nil }

// The neighbour is told why a session ends though a writer was interrupted for
// that, and took it for the connection's failure.
func TestAnInterruptedWriterIsNotTheReason(t *testing.T) {
	c := &stuck{writing: make(chan struct{}), interrupted: make(chan struct{}), told: make(chan struct{})}
	x := &session{s: &Speaker{c: Config{Hold: time.Minute}}, conn: c}
	go func() {
		defer close(c.told)
		x.end(x.send(packet.NewBGPKeepAliveMessage()))
	}()
	<-c.writing
	why := faultf(packet.BGP_ERROR_CEASE, packet.BGP_ERROR_SUB_MAXIMUM_NUMBER_OF_PREFIXES_REACHED, "too many routes")
	x.end(why)
	<-c.told
	if !errors.Is(x.why, why) {
		t.Errorf("ended for %v, want %v", x.why, why)
	}
	if n := len(c.wrote); n < 21 || c.wrote[18] != packet.BGP_MSG_NOTIFICATION || c.wrote[19] != packet.BGP_ERROR_CEASE || c.wrote[20] != packet.BGP_ERROR_SUB_MAXIMUM_NUMBER_OF_PREFIXES_REACHED {
		t.Errorf("the neighbour was told %x", c.wrote)
	}
}
