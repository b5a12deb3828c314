package cassandra

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/flix-lab/flix/services"
)

// What follows is as much of version 4 of the native protocol as it takes to
// ask one node one thing, in two round trips and without a session's pools and
// events (native_protocol_v4.spec of Apache Cassandra). Every Cassandra since
// 2.2 speaks it.
const (
	wireVersion = 0x04
	wireAnswer  = 0x80 // the bit of the version that marks answers
	headerBytes = 9

	opError        = 0x00
	opStartup      = 0x01
	opReady        = 0x02
	opAuthenticate = 0x03
	opQuery        = 0x07
	opResult       = 0x08

	resultRows = 2

	flagGlobalTable = 0x1
	flagMorePages   = 0x2
	flagNoMetadata  = 0x4

	consistencyOne = 0x0001

	// wireTimeout bounds one exchange. A change of the schema takes the longest,
	// a second or two on a busy machine.
	wireTimeout = 15 * time.Second

	// maxBody bounds an answer, in bytes. What is asked fits many times.
	maxBody = 4 << 20
)

var errWire = errors.New("malformed answer: not Cassandra's")

// wireError is an error that the node answered with.
type wireError struct {
	code int
	msg  string
}

func (e *wireError) Error() string { return fmt.Sprintf("%s (code %#04x)", e.msg, e.code) }

// wire is a connection to one node for one question at a time.
type wire struct {
	conn net.Conn
	r    *bufio.Reader
	stop func() bool
}

// dialWire connects and says hello. The connection ends with ctx. A nil dial
// is a plain dialer.
func dialWire(ctx context.Context, dial services.DialFunc, addr string) (*wire, error) {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	connecting, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := dial(connecting, "tcp", addr)
	if err != nil {
		return nil, err
	}
	w := &wire{conn: conn, r: bufio.NewReader(conn)}
	// Closing is what ends a read on a node that has fallen silent. The error
	// of a second Close says nothing.
	w.stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
	if err := w.hello(); err != nil {
		w.close()
		return nil, ended(ctx, err)
	}
	return w, nil
}

// ended prefers the end of the context as the reason of a failure.
func ended(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (w *wire) close() {
	w.stop()
	_ = w.conn.Close() // every answer was read, or its error is known
}

func (w *wire) hello() error {
	body := binary.BigEndian.AppendUint16(nil, 1)
	body = appendString(appendString(body, "CQL_VERSION"), "3.0.0")
	op, _, err := w.exchange(opStartup, body)
	switch {
	case err != nil:
		return err
	case op == opAuthenticate:
		return services.Errorf(services.Denied, "the node wants a user and a password").WithRemedy("set authenticator to AllowAllAuthenticator in cassandra.yaml")
	case op != opReady:
		return errWire
	}
	return nil
}

// query runs a statement on this node and returns its rows, if it has any.
func (w *wire) query(ctx context.Context, cql string) ([]row, error) {
	body := binary.BigEndian.AppendUint32(nil, uint32(len(cql)))
	body = append(body, cql...)
	body = binary.BigEndian.AppendUint16(body, consistencyOne)
	body = append(body, 0) // no flags: no values, no paging
	op, answer, err := w.exchange(opQuery, body)
	if err != nil {
		return nil, ended(ctx, err)
	}
	if op != opResult {
		return nil, errWire
	}
	return decodeResult(answer)
}

// exchange sends a request and reads its answer.
func (w *wire) exchange(op byte, body []byte) (byte, []byte, error) {
	if err := w.conn.SetDeadline(time.Now().Add(wireTimeout)); err != nil {
		return 0, nil, err
	}
	head := []byte{wireVersion, 0, 0, 0, op}
	head = binary.BigEndian.AppendUint32(head, uint32(len(body)))
	if _, err := w.conn.Write(append(head, body...)); err != nil {
		return 0, nil, err
	}
	var h [headerBytes]byte
	if _, err := io.ReadFull(w.r, h[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(h[5:])
	if h[0] != wireVersion|wireAnswer || n > maxBody {
		return 0, nil, errWire
	}
	answer := make([]byte, n)
	if _, err := io.ReadFull(w.r, answer); err != nil {
		return 0, nil, err
	}
	if h[4] == opError {
		return 0, nil, decodeError(answer)
	}
	return h[4], answer, nil
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}
