package player

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
)

// pieces is a connection that hands out what it has in the pieces that it came
// in, then an error.
type pieces struct {
	net.Conn
	left [][]byte
	err  error
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.left) == 0 {
		return 0, p.err
	}
	n := copy(b, p.left[0])
	if p.left[0] = p.left[0][n:]; len(p.left[0]) == 0 {
		p.left = p.left[1:]
	}
	return n, nil
}

func record(length int) []byte {
	return append([]byte{23, 3, 3, byte(length >> 8), byte(length)}, bytes.Repeat([]byte{byte(length)}, length)...)
}

// However the bytes come, no read goes beyond a head or a body, nothing is
// lost, and no room is held when all is read.
func TestRecordsAreReadOneByOne(t *testing.T) {
	lengths := []int{1, 16_640, 0, 300, 16_384, 7}
	var all []byte
	for _, n := range lengths {
		all = append(all, record(n)...)
	}
	gone := errors.New("gone")
	for _, size := range []int{1, 3, 5, 6, 1_000, 16_389, 40_000} {
		conn := &pieces{err: gone}
		for rest := all; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			conn.left = append(conn.left, rest[:min(size, len(rest))])
		}
		r := &records{Conn: conn, bufs: newBuffers()}
		var got []byte
		p := make([]byte, 64<<10)
		for _, length := range lengths {
			for _, part := range []int{recordHead, length} {
				for part > 0 {
					n, err := r.Read(p)
					if err != nil {
						t.Fatalf("in pieces of %d: %v", size, err)
					}
					if n > part {
						t.Fatalf("in pieces of %d: a read of %d bytes with %d left of the part", size, n, part)
					}
					part -= n
					got = append(got, p[:n]...)
				}
			}
		}
		if !bytes.Equal(got, all) {
			t.Errorf("in pieces of %d: other bytes came than were sent", size)
		}
		if r.room != nil {
			t.Errorf("in pieces of %d: a room is held for nothing", size)
		}
		if n, err := r.Read(p); n != 0 || err != gone {
			t.Errorf("in pieces of %d: at the end %d bytes, %v", size, n, err)
		}
	}
}

// A reader may want less than a part.
func TestRecordsBySmallReads(t *testing.T) {
	all := append(record(10), record(20)...)
	r := &records{Conn: &pieces{left: [][]byte{all}, err: io.EOF}, bufs: newBuffers()}
	var got []byte
	p := make([]byte, 2)
	for {
		n, err := r.Read(p)
		got = append(got, p[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, all) {
		t.Errorf("got % x, want % x", got, all)
	}
}

// deaf is a connection that counts what it is told to send.
type deaf struct {
	net.Conn
	sent []string
}

func (d *deaf) Write(b []byte) (int, error) { d.sent = append(d.sent, string(b)); return len(b), nil }

func (d *deaf) Read([]byte) (int, error) { return 0, io.EOF }

// What a handshake says goes out when an answer is waited for, and its last word
// with the first request.
func TestRecordsGoOutTogether(t *testing.T) {
	d := &deaf{}
	r := &records{Conn: d, bufs: newBuffers(), gathers: true}
	write := func(s string) {
		if n, err := r.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatalf("%q: %d, %v", s, n, err)
		}
	}
	write("hello")
	if len(d.sent) != 0 {
		t.Errorf("sent before an answer is waited for: %q", d.sent)
	}
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Fatal(err)
	}
	write("change ")
	write("finished ")
	r.gathers = false
	write("request")
	write("another")
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Fatal(err)
	}
	if want := []string{"hello", "change finished request", "another"}; !slices.Equal(d.sent, want) {
		t.Errorf("sent %q, want %q", d.sent, want)
	}
}
