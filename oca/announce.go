package oca

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/gaissmai/bart"

	"github.com/flix-lab/flix/oca/bgp"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// announced is what the appliance announces: the site's declared prefixes, or the
// routes that it has learned from the site's router.
type announced struct {
	prefixes []string    // declared
	routes   []*pb.Route // learned, in order
	table    *bart.Lite  // of both
}

func declared(prefixes []netip.Prefix) *announced {
	a := &announced{table: &bart.Lite{}}
	for _, p := range prefixes {
		a.prefixes = append(a.prefixes, p.String())
		a.table.Insert(p)
	}
	return a
}

func learned(routes []topology.Route) *announced {
	slices.SortFunc(routes, func(a, b topology.Route) int { return a.Prefix.Compare(b.Prefix) })
	a := &announced{table: &bart.Lite{}, routes: make([]*pb.Route, 0, len(routes))}
	for _, r := range routes {
		a.routes = append(a.routes, &pb.Route{Prefix: r.Prefix.String(), AsPath: r.ASPath, Med: r.MED})
		a.table.Insert(r.Prefix)
	}
	return a
}

// settle is how long the routes are let change before cache control hears of it:
// a table comes in many messages.
const settle = 50 * time.Millisecond

// learnLoop takes up what the site's router says.
func (s *Server) learnLoop(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.d.BGP.Note():
		}
		if !sleep(ctx, settle) {
			return nil
		}
		s.relearn()
	}
}

// relearn tells cache control of the routes, if they are others than before, and
// of the session's health.
func (s *Server) relearn() {
	s.learning.Lock()
	defer s.learning.Unlock()
	st := s.d.BGP.State()
	fresh := learned(s.d.BGP.Routes())
	old := s.announces.Swap(fresh)
	same := func(a, b *pb.Route) bool {
		return a.GetPrefix() == b.GetPrefix() && a.GetAsPath() == b.GetAsPath() && a.GetMed() == b.GetMed()
	}
	if st.Whole && !slices.EqualFunc(old.routes, fresh.routes, same) {
		s.d.Tel.Log.Info("routes changed", "routes", len(fresh.routes), "before", len(old.routes))
		s.outbox.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Routes{Routes: &pb.Routes{Routes: fresh.routes}}})
	}
	why := ""
	if !st.Established && st.Routes == 0 && st.Whole {
		why = fmt.Sprintf("bgp: no session with the router, AS %d", s.d.Site.RouterASN)
		if st.Error != "" {
			why += ": " + st.Error
		}
	}
	s.health.setSession(why)
}

// whole waits until the routes are known, so that an appliance which starts again
// does not take back those that it announced before.
func (s *Server) whole(ctx context.Context) {
	if s.d.BGP == nil {
		return
	}
	select {
	case <-ctx.Done():
	case <-s.d.BGP.Whole():
		s.relearn()
	}
}

// Session is how an appliance's BGP session is.
type Session struct {
	Appliance string `json:"appliance"`
	Site      string `json:"site"`
	RouterASN uint32 `json:"router_asn"`
	// Listen is where the router may connect.
	Listen string `json:"listen"`
	bgp.State
}

// RegisterAdmin adds GET /oca/bgp: Session, where the appliance has one.
func (s *Server) RegisterAdmin(mux *http.ServeMux, key string) {
	if s.d.BGP == nil {
		return
	}
	mux.Handle("GET /oca/bgp", telemetry.Guard(key, func(w http.ResponseWriter, _ *http.Request) {
		telemetry.WriteJSON(w, http.StatusOK, Session{Appliance: string(s.d.ID), Site: s.d.Site.Name, RouterASN: s.d.Site.RouterASN, Listen: s.d.BGPAddr, State: s.d.BGP.State()})
	}))
}
