package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/flix-lab/flix/services/lookup/eureka"
)

// maxCopy bounds a copy of another registry, in bytes.
const maxCopy = 256 << 20

// fillPause is the pause between two attempts to copy a peer's contents.
const fillPause = time.Second

// fill copies what a peer knows into a registry that has just started, so that
// it does not answer with less than there is. Until every peer was asked once,
// and for EmptyWait after a start that found nothing to copy, fetches are
// refused; registrations and heartbeats never are.
func (s *Server) fill(ctx context.Context) {
	n, err := s.copyOnce(ctx)
	if n > 0 || err == nil {
		s.filled(n, err)
		return
	}
	s.filled(0, err)
	// The peers are away. One that comes back within a lease may know more
	// than the clients have told us by then.
	tick := time.NewTicker(fillPause)
	defer tick.Stop()
	for end := s.started.Add(s.deps.Timing.LeaseDuration.D()); s.deps.Clock().Before(end); {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if n, err = s.copyOnce(ctx); err == nil {
			s.filled(n, nil)
			return
		}
	}
}

// copyOnce copies the first peer that answers; an error when none does.
func (s *Server) copyOnce(ctx context.Context) (int, error) {
	var errs []error
	for _, p := range s.peers.all() {
		n, self, err := p.copyFrom(ctx)
		switch {
		case self:
		case err != nil:
			errs = append(errs, err)
		default:
			s.log.Info("copied a peer's contents", "peer", p.url, "instances", n)
			return n, nil
		}
	}
	return 0, errors.Join(errs...)
}

// copyFrom registers here what the peer has.
func (n *peer) copyFrom(ctx context.Context) (count int, self bool, err error) {
	status, body, err := n.call(ctx, http.MethodGet, "/apps", nil)
	if n.report().State == peerSelf {
		return 0, true, nil
	}
	if err == nil && status != http.StatusOK {
		err = n.refusal(status, body)
	}
	if err != nil {
		return 0, false, err
	}
	apps, err := eureka.DecodeApplications(body)
	if err != nil {
		return 0, false, fmt.Errorf("%s: %w", n.url, err)
	}
	for _, app := range apps.Regional {
		for i := range app.Instances {
			in := &app.Instances[i]
			if n.p.s.store.find(in.App, in.InstanceID) != nil {
				continue // it has come here itself meanwhile
			}
			if err := n.p.s.admit(in, in.App, true); err != nil {
				n.p.s.log.Warn("a peer's instance cannot be taken", "peer", n.url, "id", in.InstanceID, "err", err)
				continue
			}
			count++
		}
	}
	return count, false, nil
}

// filled notes the outcome of the first attempt to copy.
func (s *Server) filled(n int, err error) {
	s.fillMu.Lock()
	defer s.fillMu.Unlock()
	if !s.fillAsked && err != nil {
		s.log.Warn("no peer answers: the registry starts empty, and its clients tell it of themselves", "err", err)
	}
	s.fillAsked, s.fillCount = true, s.fillCount+n
}

// filling says why fetches are not served yet, or "".
func (s *Server) filling() string {
	if len(s.peers.all()) == 0 {
		return "" // it is alone: there is nothing to ask for, and nobody
	}
	s.fillMu.Lock()
	defer s.fillMu.Unlock()
	switch wait := s.started.Add(s.deps.EmptyWait).Sub(s.deps.Clock()); {
	case !s.fillAsked:
		return "the registry has just started and asks its peers what there is"
	case s.fillCount == 0 && wait > 0:
		return fmt.Sprintf("the registry started empty and waits %s more for its clients to tell it of themselves", wait.Round(time.Second))
	}
	return ""
}
