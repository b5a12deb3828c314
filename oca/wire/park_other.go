//go:build !linux

package wire

// parker would let idle connections wait without a goroutine; here each has a
// fresh one.
type parker struct{}

func newParker() (*parker, error) { return &parker{}, nil }

func (*parker) park(*conn) bool   { return false }
func (*parker) unpark(*conn) bool { return false }
func (*parker) run()              {}
func (*parker) close()            {}
