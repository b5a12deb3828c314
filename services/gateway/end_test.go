package gateway

import (
	"net"
	"testing"
)

// closing tells when a listener ends.
type closing struct {
	net.Listener
	f func()
}

func (c *closing) Close() error {
	c.f()
	return c.Listener.Close()
}

// Once nobody is let in, no answer keeps its connection any more: its client would
// ask on one that is about to end.
func TestEndIsToldBeforeAnybodyIsRefused(t *testing.T) {
	var (
		e     *edge
		asked bool
	)
	e = newWorld(t).gateway("us-east", func(d *Deps) {
		d.HTTP = &closing{d.HTTP, func() {
			if !asked && !e.settings.draining() {
				t.Error("the listener ends while answers keep their connections")
			}
			asked = true
		}}
	})
	e.stop()
	if !asked {
		t.Error("the listener did not end")
	}
}
