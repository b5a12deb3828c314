package wire

import "net"

// quiet is a TCP connection that is read and written as a socket is.
type quiet struct {
	*net.TCPConn
	sock *socket
}

// Quiet returns a connection that does the same for less, if it is one of TCP
// that carries its bytes as they are: the scheduler of Go is not told of each
// read and write. In a process that mostly waits this is worth more than the
// calls take: each call that it is told of wakes the runtime's monitor, which
// then looks at what there is every 20 µs for as long as anything runs.
//
// One goroutine may read while another writes; neither may be two.
func Quiet(c net.Conn) net.Conn {
	tcp, _ := c.(*net.TCPConn)
	if s := newSocket(tcp); s != nil {
		return &quiet{tcp, s}
	}
	return c
}

// Read implements net.Conn.
func (q *quiet) Read(b []byte) (int, error) { return q.sock.Read(b) }

// Write implements net.Conn.
func (q *quiet) Write(b []byte) (int, error) { return q.sock.Write(b) }
