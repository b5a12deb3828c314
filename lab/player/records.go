package player

import (
	"encoding/binary"
	"net"
)

// recordHead is the length of a TLS record's head; its last two bytes are the
// length of what follows.
const recordHead = 5

// records is a connection below TLS that hands up the head of a record, then its
// body, and never a part of the next one with it. What package tls gets beyond a
// record it keeps, in a buffer that it doubles for it time and again: some 50 KiB
// of each open connection, used or not. Here that waits in a borrowed room, which
// goes back as soon as it is empty. One goroutine reads at a time.
type records struct {
	net.Conn
	bufs *buffers
	// room holds [from, to) that was received and not read; nil holds nothing.
	room     *[roomSize]byte
	from, to int
	// head is what was read of a record's head, left how much of its body is to
	// be read still.
	head []byte
	left int
	// gathered is what was written while gathers was set, and goes out before the
	// next read, or with what is written next: a client's last word of a handshake
	// leaves with its first request.
	gathers  bool
	gathered []byte
}

// Write implements net.Conn.
func (r *records) Write(p []byte) (int, error) {
	if r.gathers {
		r.gathered = append(r.gathered, p...)
		return len(p), nil
	}
	if r.gathered == nil {
		return r.Conn.Write(p)
	}
	before := len(r.gathered)
	all := append(r.gathered, p...)
	r.gathered = nil
	n, err := r.Conn.Write(all)
	return max(n-before, 0), err
}

// Read implements net.Conn.
func (r *records) Read(p []byte) (int, error) {
	if r.gathered != nil {
		all := r.gathered
		r.gathered = nil
		if _, err := r.Conn.Write(all); err != nil {
			return 0, err
		}
	}
	if r.room == nil {
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := r.left
	if n == 0 {
		n = recordHead - len(r.head)
	}
	n = copy(p, r.room[r.from:min(r.to, r.from+n)])
	r.from += n
	if r.from == r.to {
		r.bufs.rooms.put(r.room)
		r.room = nil
	}
	r.follow(p[:n])
	return n, nil
}

// fill receives what there is, up to a room full.
func (r *records) fill() error {
	room := r.bufs.rooms.get()
	n, err := r.Conn.Read(room[:])
	if n == 0 {
		r.bufs.rooms.put(room)
		return err
	}
	// An error beside the bytes comes again with the next read.
	r.room, r.from, r.to = room, 0, n
	return nil
}

// follow keeps track of where in a record the reader is.
func (r *records) follow(b []byte) {
	if r.left > 0 {
		r.left -= len(b)
		return
	}
	if r.head = append(r.head, b...); len(r.head) == recordHead {
		r.left = int(binary.BigEndian.Uint16(r.head[recordHead-2:]))
		r.head = r.head[:0]
	}
}
