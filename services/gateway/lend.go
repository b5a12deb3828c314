package gateway

import "cmp"

// A region may stand and serve no play: the only instance of its licence
// service is gone, or its SQL node. Its viewers need not wait until somebody
// moves them: the gateways pass requests on to the nearest region that is whole,
// as they do in an evacuation, and serve them again once the service is back.
// What a request needs is not looked into: a viewer whose sign-in was answered
// here and whose play elsewhere would see two regions' states at once.

// lend has the request answered in the nearest region that is whole when this one
// is not. With none that is, it stays: a part of the answers is better than none.
func (s *Server) lend(ex *Exchange) {
	if s.d.Lacks == nil {
		return
	}
	lack := s.d.Lacks(s.d.Region)
	if was := s.lacking.Load(); was == nil && lack != "" || was != nil && *was != lack {
		s.lacking.Store(&lack)
		s.d.Tel.Log.Warn("requests are passed on while the region lacks a service", "lacks", cmp.Or(lack, "none any more"))
	}
	if lack == "" {
		return
	}
	ex.Savers = ex.Savers[:0]
	t := s.d.Topology()
	for _, region := range t.Nearest(s.d.Region) {
		if region != s.d.Region && s.d.Lacks(region) == "" {
			ex.Savers = append(ex.Savers, region)
		}
	}
}
