package play

import (
	"cmp"
	"context"
	"net/http"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/edge"
	"github.com/flix-lab/flix/services/license/licensepb"
	"github.com/flix-lab/flix/services/playback/playbackpb"
)

const (
	kindStop = "stop"
	// maxText bounds what a client may write into an event, in bytes.
	maxText = 1024
)

// takeReport implements PathReport. The client sends a report again when it
// gets no 204: session and sequence number make that harmless.
func (s *Server) takeReport(r *http.Request, c edge.Caller) (any, error) {
	req, err := edge.Decode[ReportRequest](r)
	if err != nil {
		return nil, err
	}
	if err := req.validate(); err != nil {
		return nil, err
	}
	ctx := r.Context()
	if _, err := s.report.Do(ctx, func(ctx context.Context) (struct{}, error) {
		_, err := s.d.Playback.Report(ctx, &playbackpb.ReportRequest{
			SessionId: req.Session, MemberId: c.Member, TitleId: req.Title, Kind: req.Kind, Sequence: req.Sequence,
			PositionS: req.PositionS, Appliance: req.Appliance, Bytes: req.Bytes, Rung: req.Rung, RebufferS: req.RebufferS,
			Error: req.Error, Region: s.d.Region, ClientIp: c.ClientIP, Isp: c.ISP,
			Device: cmp.Or(req.Device, c.Device), Country: c.Country,
		})
		return struct{}{}, err
	}); err != nil {
		return nil, services.Wrap("report", err)
	}
	if req.Kind == kindStop {
		s.stock.followers.end(req.Session)
		if req.License != "" {
			s.releaseLicense(ctx, req)
		}
	}
	return nil, nil
}

// releaseLicense gives a licence back. The stop is recorded by then, and the
// licence ends by its expiry anyway: a failure is logged, not answered.
func (s *Server) releaseLicense(ctx context.Context, req ReportRequest) {
	if _, err := s.release.Do(ctx, func(ctx context.Context) (struct{}, error) {
		_, err := s.d.License.Release(ctx, &licensepb.ReleaseRequest{License: req.License, SessionId: req.Session})
		return struct{}{}, err
	}); err != nil {
		s.d.Tel.Log.WarnContext(ctx, "licence not released", "session", req.Session, "error", err)
	}
}

func (r ReportRequest) validate() error {
	for _, f := range []struct {
		name, value string
		needed      bool
		max         int
	}{
		{"session_id", r.Session, true, maxID}, {"title_id", r.Title, true, maxID}, {"kind", r.Kind, true, maxID},
		{"appliance", r.Appliance, false, maxID}, {"rung", r.Rung, false, maxID}, {"device", r.Device, false, maxID},
		{"error", r.Error, false, maxText},
	} {
		if f.needed && f.value == "" || len(f.value) > f.max {
			return services.Errorf(services.Invalid, "report: %s: it is empty or longer than %d bytes", f.name, f.max)
		}
	}
	switch r.Kind {
	case "start", "progress", kindStop, "error":
		return nil
	}
	return services.Errorf(services.Invalid, "report: kind: %q is not start, progress, stop or error", r.Kind)
}

// takeSuspect implements PathSuspect: cache control has the appliance read the
// file again, so a false report costs a read and nothing else.
func (s *Server) takeSuspect(r *http.Request, _ edge.Caller) (any, error) {
	req, err := edge.Decode[SuspectRequest](r)
	if err != nil {
		return nil, err
	}
	for _, f := range []struct{ name, value string }{{"session_id", req.Session}, {"title_id", req.Title}, {"appliance", req.Appliance}, {"path", req.Path}} {
		if f.value == "" || len(f.value) > maxID {
			return nil, services.Errorf(services.Invalid, "suspect: %s: it is empty or longer than %d bytes", f.name, maxID)
		}
	}
	if _, err := s.suspect.Do(r.Context(), func(ctx context.Context) (struct{}, error) {
		_, err := s.d.CacheControl.Suspect(ctx, &cachecontrolpb.SuspectRequest{
			Appliance: req.Appliance, TitleId: req.Title, Version: req.Version, Path: req.Path, Reporter: req.Session,
		})
		return struct{}{}, err
	}); err != nil {
		return nil, services.Wrap("suspect", err)
	}
	return nil, nil
}
