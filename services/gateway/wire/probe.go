package wire

// probe looks whether anything has come in on an idle connection: a byte, or
// its end.
type probe struct {
	raw   rawConn
	look  func(fd uintptr) // made once: it runs before each use
	quiet bool
}

func newProbe(raw rawConn) *probe {
	p := &probe{raw: raw}
	p.look = func(fd uintptr) { p.quiet = nothingToRead(fd) }
	return p
}

// nothing says that nothing has come in.
func (p *probe) nothing() bool {
	p.quiet = false
	return p.raw.Control(p.look) == nil && p.quiet
}
