package wire

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
)

// socket reads and writes a TCP connection that carries its bytes as they are.
// It does less than net.TCPConn for the same: a descriptor that never blocks
// is used without telling the scheduler, which only needs to know of calls that
// may take long, and who finds nothing lets others run before it is parked.
//
// Deadlines are those of the connection. One goroutine may read while another
// writes; neither may be two.
type socket struct {
	raw rawConn

	in      []byte
	lender  *Buffers // lends in, of size, once there is something to read
	size    int
	got     int
	yielded bool // others ran since the read began
	inErr   error
	asking  []byte // goes out before anything is read, and then to the lender
	used    bool   // something had come in before
	unsent  error

	out     [3][]byte
	sent    int
	outErr  error
	receive func(fd uintptr) bool // made once, as deliver
	deliver func(fd uintptr) bool
}

// newSocket returns the socket of a connection; nil where there is no such
// thing.
func newSocket(tcp *net.TCPConn) *socket {
	if tcp == nil || !hasSockets {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil { // it is closed
		return nil
	}
	s := &socket{raw: raw}
	s.receive, s.deliver = s.take, s.give
	return s
}

// Read implements io.Reader.
func (s *socket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.in = p
	err := s.read()
	s.in = nil
	return s.got, err
}

// borrow reads once, into a buffer that it takes when there is something to read,
// and returns it with the count; nil if there is nothing. Whoever waits holds no
// buffer, and the one that was used last, and is near the processor, is used again.
func (s *socket) borrow(from *Buffers, size int) ([]byte, int, error) {
	s.lender, s.size = from, size
	err := s.read()
	p := s.in
	s.in, s.lender = nil, nil
	return p, s.got, err
}

func (s *socket) read() error {
	s.got, s.inErr, s.yielded = 0, nil, false
	err := s.raw.Read(s.receive)
	if s.got == 0 {
		s.giveBack()
	}
	if s.inErr != nil {
		err = s.inErr
	}
	return err
}

// giveBack returns a buffer that nothing was read into.
func (s *socket) giveBack() {
	if s.lender != nil && s.in != nil {
		s.lender.put(s.in)
		s.in = nil
	}
}

var (
	// errUsed says that something came in on a connection before anything was
	// asked on it: the next answer would not be the one to the next request.
	errUsed = errors.New("the server spoke unasked, or ended the connection")
	// errUnsent marks an error from before all of a request was sent.
	errUnsent = errors.New("the request could not be sent")
)

// ask sends out, which is in a buffer of from, and reads what comes then into one of
// a size, as borrow does. Nothing is sent, and the error is errUsed, when something
// had come in before.
//
// The runtime tells of input once, when it comes (its poller is edge triggered).
// Whoever reads must therefore look first and wait then. Here what is waited for
// cannot come before out is sent, and the waiting is prepared before that: the
// first look is after others ran.
func (s *socket) ask(out []byte, from *Buffers, size int) ([]byte, int, error) {
	s.asking, s.used, s.unsent = out, false, nil
	in, n, err := s.borrow(from, size)
	if s.asking != nil { // it did not come to that
		s.asking = nil
		from.put(out)
	}
	switch {
	case s.used:
		return nil, 0, errUsed
	case s.unsent != nil:
		return nil, 0, errors.Join(errUnsent, s.unsent)
	}
	return in, n, err
}

// take is what the runtime calls when there may be something to read; false
// makes it wait.
func (s *socket) take(fd uintptr) bool {
	if out := s.asking; out != nil {
		if s.used = !nothingToRead(fd); s.used {
			return true
		}
		_, s.unsent = s.Write(out)
		s.asking = nil
		s.lender.put(out)
		if s.unsent != nil {
			return true
		}
		s.yield()
	}
	for {
		if s.in == nil {
			s.in = s.lender.get(s.size)
		}
		n, errno := receiveNow(fd, s.in)
		switch {
		case errno == syscall.EAGAIN:
			s.giveBack()
			if s.yield() {
				continue
			}
			return false
		case errno != 0:
			s.inErr = os.NewSyscallError("read", errno)
		case n == 0:
			s.inErr = io.EOF
		default:
			s.got = n
		}
		return true
	}
}

// yield lets others run, once in a read; false if they did. On a busy machine what is
// waited for is often there by then, and to look again costs less than to be parked
// and woken, and than a thread that goes to sleep meanwhile (decision 027).
func (s *socket) yield() bool {
	if s.yielded {
		return false
	}
	s.yielded = true
	runtime.Gosched()
	return true
}

// Write implements io.Writer.
func (s *socket) Write(p []byte) (int, error) {
	s.out[0] = p
	err := s.write()
	return s.sent, err
}

// Writev sends several pieces in one call. It forgets them.
func (s *socket) Writev(a, b, c []byte) error {
	s.out = [3][]byte{a, b, c}
	return s.write()
}

func (s *socket) write() error {
	s.sent, s.outErr = 0, nil
	err := s.raw.Write(s.deliver)
	clear(s.out[:])
	if s.outErr != nil {
		return s.outErr
	}
	return err
}

// give is take for writing.
func (s *socket) give(fd uintptr) bool {
	for {
		n, errno := sendNow(fd, &s.out)
		if errno == syscall.EAGAIN {
			return false
		}
		if errno != 0 {
			s.outErr = os.NewSyscallError("write", errno)
			return true
		}
		s.sent += n
		left := false
		for i, p := range s.out {
			m := min(n, len(p))
			s.out[i], n = p[m:], n-m
			left = left || m < len(p)
		}
		if !left {
			return true
		}
	}
}
