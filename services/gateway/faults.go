package gateway

import "github.com/flix-lab/flix/services/rpc"

// markFaults is the inbound filter "faults": it says in the scope of which
// injected faults a request is, for whoever makes calls on its behalf, and
// applies those of paths here. Without any fault it costs one atomic load.
func (s *Server) markFaults(ex *Exchange) error {
	if s.d.Faults.None() {
		return nil
	}
	v := rpc.Viewer{Country: ex.Country, ISP: ex.ISP, Client: ex.Client}
	if m := ex.Member; m != nil {
		v.Member, v.Device = m.Member, m.Device
	}
	ex.faults = s.d.Faults.Mark(v)
	return s.d.Faults.ApplyPath(ex.ctx, s.d.Region, ex.Request.Path, v)
}
