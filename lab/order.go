package lab

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/fixtures"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// inNeed are the roles of flix's own that a play needs one instance of in its
// region.
var inNeed = []topology.Role{
	topology.RoleDNS, topology.RoleELB, topology.RoleRegistry, topology.RoleGateway, topology.RoleSignup, topology.RoleDiscovery,
	topology.RolePlay, topology.RolePlayback, topology.RoleLicense, topology.RoleSteering, topology.RoleCacheControl,
}

// byNeed parts the instances to start, of all of a lab, into those that a play
// near every region needs and those that come once it has succeeded. Where real
// stores start, processors are short, and the way of a play gets them first:
// until Kafka answers its clients keep their events, until the search does titles
// are found in the catalogue, what is there twice does the work alone, and
// exchanges stand for the appliances of the ISPs. What shares a container with
// any of it starts with it. Without real stores all starts at once, within a
// second.
func byNeed(start, all []runtime.Spec, pack topology.Pack) (first, later []runtime.Spec) {
	if !slices.ContainsFunc(start, func(s runtime.Spec) bool { return s.Sidecar }) {
		return start, nil
	}
	container := func(s runtime.Spec) string {
		if pack == topology.PackZone && !s.Sidecar {
			return s.Region + "/" + s.Zone
		}
		return s.ID
	}
	needed := needs(all)
	with := map[string]bool{} // containers of which an instance is needed
	for _, s := range all {
		with[container(s)] = with[container(s)] || needed(s)
	}
	for _, s := range start {
		if with[container(s)] {
			first = append(first, s)
		} else {
			later = append(later, s)
		}
	}
	return first, later
}

// needs tells which instances of a lab a play near every region needs.
func needs(all []runtime.Spec) func(runtime.Spec) bool {
	type kind struct {
		region string
		role   topology.Role
	}
	exchanges := map[string]bool{} // regions that have one
	lowest := map[kind]int{}       // number of an instance
	for _, s := range all {
		exchanges[s.Region] = exchanges[s.Region] || s.Site != nil && s.Site.Kind == topology.SiteExchange
		k := kind{s.Region, s.Role}
		if n, ok := lowest[k]; !ok || s.Number < n {
			lowest[k] = s.Number
		}
	}
	return func(s runtime.Spec) bool {
		switch {
		case s.Sidecar:
			return s.Role != topology.RoleKafka && s.Role != topology.RoleSearch
		case s.Site != nil:
			return s.Site.Kind == topology.SiteExchange || !exchanges[s.Region]
		}
		return slices.Contains(inNeed, s.Role) && s.Number == lowest[kind{s.Region, s.Role}]
	}
}

// except returns the specs that are not among others.
func except(specs, others []runtime.Spec) []runtime.Spec {
	return slices.DeleteFunc(slices.Clone(specs), func(s runtime.Spec) bool {
		return slices.ContainsFunc(others, func(o runtime.Spec) bool { return o.ID == s.ID })
	})
}

// startNeeded starts, of the instances to start of all of a lab, what a play near
// every region needs, and returns what comes later; see byNeed.
func (l *Lab) startNeeded(ctx context.Context, st *steps, start, all []runtime.Spec) (*rest, error) {
	first, later := byNeed(start, all, l.containers().Pack)
	if len(first) == 0 {
		return &rest{specs: later}, nil
	}
	return &rest{specs: later}, st.do(ctx, "start", func(ctx context.Context) (string, error) {
		return fmt.Sprintf("%s started", services.Count(len(first), "instance")), l.rt.Start(ctx, first)
	})
}

// startLater starts the rest, if there is any.
func (l *Lab) startLater(ctx context.Context, st *steps, later *rest) error {
	if len(later.specs) == 0 {
		return nil
	}
	return st.do(ctx, RestStep, func(ctx context.Context) (string, error) { return l.complete(ctx, st, later) })
}

// RestStep is the step of an up or a start that starts what comes later.
const RestStep = "rest"

// rest is what an up or a start starts later.
type rest struct {
	specs []runtime.Spec
	// begun says that they have been started: from then on each is to live.
	begun atomic.Bool
}

// holds says whether an instance is of those that are still to be started. It
// may have run before, and have ended.
func (r *rest) holds(id string) bool {
	return !r.begun.Load() && slices.ContainsFunc(r.specs, func(s runtime.Spec) bool { return s.ID == id })
}

// complete starts the rest, and returns when the stores among it answer and the
// search has its documents.
func (l *Lab) complete(ctx context.Context, st *steps, later *rest) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, storesTime)
	defer cancel()
	if err := l.rt.Start(ctx, later.specs); err != nil {
		return "", err
	}
	later.begun.Store(true)
	stores := slices.DeleteFunc(slices.Clone(later.specs), func(s runtime.Spec) bool { return !s.Sidecar || l.current().Stopped[s.ID] })
	if err := l.storesAnswer(ctx, stores, st.answering); err != nil {
		return "", err
	}
	cat, err := fixtures.Catalogue()
	if err != nil {
		return "", err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range stores {
		if s.Role == topology.RoleSearch {
			g.Go(func() error { return l.seedSearch(ctx, s.Region, cat) })
		}
	}
	return fmt.Sprintf("%s started, %s among them answer", services.Count(len(later.specs), "more instance"), services.Count(len(stores), "store")), g.Wait()
}

// answering tells that a store does.
func (s *steps) answering(store runtime.Spec, after time.Duration) {
	s.tell("up.note", store.ID, fmt.Sprintf("%s answers after %.1f s", store.ID, after.Seconds()))
}
