package lab

import (
	"time"

	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/topology"
)

// addressed are the faults of an intent that are not over, with the addresses
// of their sides as they are now.
func (l *Lab) addressed(i *intent) []fault.Fault {
	var (
		out   []fault.Fault
		addrs map[string][]string
	)
	now := time.Now()
	for _, f := range i.Faults {
		if f.Over(now) {
			continue
		}
		if f.Effect.Link != nil {
			if addrs == nil {
				addrs = l.addressesOf(i)
			}
			link := *f.Effect.Link
			link.A, link.B = placed(link.A, addrs), placed(link.B, addrs)
			f.Effect.Link = &link
		}
		out = append(out, f)
	}
	return out
}

// addressesOf maps each instance to the host:port of its ports, but for the
// admin one: the lab's own eyes.
func (l *Lab) addressesOf(i *intent) map[string][]string {
	out := map[string][]string{}
	if l.rt == nil {
		return out
	}
	for _, inst := range i.instances() {
		s, err := l.spec(i, inst)
		if err != nil {
			continue // it has no ports yet: nobody can dial it
		}
		for _, port := range inst.Ports {
			if port == topology.PortAdmin {
				continue
			}
			a := s.Addr(port)
			out[inst.ID] = append(out[inst.ID], a)
			if p := endpoint(runtime.World{Client: publicAddress}, s, port); p != a && i.Runtime == ContainersRuntime {
				out[inst.ID] = append(out[inst.ID], p)
			}
		}
	}
	return out
}

func placed(s fault.Side, addrs map[string][]string) fault.Side {
	s.Addrs = nil
	for _, id := range s.Instances {
		s.Addrs = append(s.Addrs, addrs[id]...)
	}
	return s
}
