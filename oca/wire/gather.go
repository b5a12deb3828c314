package wire

import (
	"errors"
	"io"
	"net"
)

const (
	// record is the most plaintext of a TLS record (RFC 8446, 5.1).
	record = 16 << 10
	// batchRecords is how many records are written at once.
	batchRecords = 4
	// sealed is what a record takes on the wire: five bytes of header, one of
	// type, sixteen of tag.
	sealed = record + 5 + 1 + 16
)

// batch is the buffers of one large write: plain text and, for TLS, records.
type batch struct {
	plain  []byte
	cipher []byte
}

func newBatch() *batch { return &batch{plain: make([]byte, batchRecords*record)} }

// gather is the connection below TLS. While it has a batch, it gathers records
// and writes them when told to.
type gather struct {
	net.Conn
	s     *Server
	owner *conn // set when net/http serves the connection
	b     *batch
}

// Write implements net.Conn.
func (g *gather) Write(p []byte) (int, error) {
	if g.b == nil {
		return g.Conn.Write(p)
	}
	g.b.cipher = append(g.b.cipher, p...)
	return len(p), nil
}

// flush writes what was gathered.
func (g *gather) flush() error {
	_, err := g.Conn.Write(g.b.cipher)
	g.b.cipher = g.b.cipher[:0]
	return err
}

var (
	errShort   = errors.New("the file is shorter than it was")
	errSpoiled = errors.New("the file has been found to be damaged")
	errChanged = errors.New("the file was changed while it was sent")
)

// readFull reads exactly the bytes asked for.
func readFull(f *File, b []byte, off int64) error {
	if n, err := f.ReadAt(b, off); n < len(b) {
		if err == nil || errors.Is(err, io.EOF) {
			return errShort
		}
		return err
	}
	return f.sound() // after it was read: what is sent was so
}
