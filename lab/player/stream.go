package player

import (
	"context"
	"errors"
	"net/http"

	"go.opentelemetry.io/otel/attribute"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/play"
	"github.com/flix-lab/flix/services/telemetry"
)

const (
	// maxReasks bounds how often in a row the play API is asked for other
	// appliances without anything received in between.
	maxReasks = 5
	// comfort is the buffer, in segments, that it takes to try a better source.
	comfort = 2
)

// fetch gets an object from whichever appliance can give it. Each failure
// moves on to the next; when all have failed the play API is asked again. It
// fails with errAbandoned when the object's look gave it up.
func (s *session) fetch(ctx context.Context, o object) (delivery, error) {
	for {
		src, err := s.source(ctx)
		if err != nil {
			return delivery{}, err
		}
		wasWarm := src.isWarm()
		d, err := s.get(ctx, src, o)
		if wasWarm && lostConnection(err) && ctx.Err() == nil {
			// The connection of the probe may have been closed while it was
			// idle, which says nothing about the appliance.
			d, err = s.get(ctx, src, o)
		}
		if ctx.Err() != nil {
			return delivery{}, ctx.Err()
		}
		if err == nil {
			s.received(src, d.n)
			return d, nil
		}
		if errors.Is(err, errAbandoned) {
			return delivery{}, err // through no fault of the appliance
		}
		s.failed(src, o, err)
	}
}

// lostConnection says that an error is neither an answer nor our own verdict.
func lostConnection(err error) bool {
	var answer *services.Error
	return err != nil && !errors.As(err, &answer) && !errors.Is(err, errSum) && !errors.Is(err, errStalled) && !errors.Is(err, errSlow) && !errors.Is(err, errAbandoned)
}

// source picks the appliance for the next request and, when there is none,
// asks the play API for others.
func (s *session) source(ctx context.Context) (*source, error) {
	for {
		s.probing.absorb()
		clock := s.book.at(s.now())
		comfortable := clock.buffer() >= comfort*s.segment
		if src := pick(s.sources, s.current, comfortable, s.now()); src != nil {
			s.current = src
			return src, nil
		}
		if err := s.reask(ctx); err != nil {
			return nil, err
		}
	}
}

// received books bytes from a source and forgives it.
func (s *session) received(src *source, n int) {
	src.failures, s.fruitless, s.lenience = 0, 0, 1
	s.book.served(src.Appliance, n)
}

// failed books why a source did not deliver, and keeps it out for a while:
// for the rest of the play when its bytes were wrong.
func (s *session) failed(src *source, o object, err error) {
	s.book.note(services.Wrap(src.Name+": "+o.name, err))
	src.penalise(s.now(), s.timing.HealthReport.D(), s.timing.ReportExpiry.D())
	switch {
	case errors.Is(err, errSum):
		src.excluded, s.wrong[src.Name] = true, true
		s.teller.suspect(&play.SuspectRequest{Session: s.id, Title: s.reply.Title, Version: s.reply.Version, Appliance: src.Name, Path: o.path})
	case errors.Is(err, errSlow):
		// If every appliance is slow it is not theirs: be more patient, so
		// that the transfer ends at some speed.
		s.lenience *= 2
	}
}

// reask tells the play API that every appliance has failed and takes the ones
// it offers instead.
func (s *session) reask(ctx context.Context) (err error) {
	ctx, span := s.tel.Tracer.Start(ctx, "renew")
	defer func() { telemetry.End(span, err) }()
	span.SetAttributes(attribute.Int("renew.fruitless", s.fruitless))
	for {
		s.fruitless++
		if s.fruitless > maxReasks {
			return services.Errorf(services.Unavailable, "no appliance delivers, after asking for others %d times", maxReasks).
				WithReason(services.ReasonPlayFailed).WithRemedy("flix fill status shows what the appliances hold")
		}
		if s.fruitless > 1 {
			if err := sleep(ctx, min(s.timing.RetryWait.D()<<(s.fruitless-1), s.timing.RetryWaitMax.D())); err != nil {
				return err
			}
		}
		err := s.renew(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case services.KindOf(err) != services.Unavailable && services.ReasonOf(err) != services.ReasonNoReplica:
			return err
		}
		s.book.note(err)
	}
}

// renew makes one request for other appliances and probes them.
func (s *session) renew(ctx context.Context) error {
	var broken []string
	for _, src := range s.sources {
		broken = append(broken, src.Name)
		src.drop()
	}
	in := play.RenewRequest{Session: s.id, Title: s.reply.Title, License: s.reply.License, Device: s.opts.Device, Broken: broken}
	var reply play.StartReply
	s.book.reasked()
	if _, err := s.playing.call(ctx, persistent, http.MethodPost, play.PathRenew, s.key("renew"), in, &reply); err != nil {
		return services.Wrap("ask for other appliances", err)
	}
	if reply.License != "" {
		s.reply.License, s.reply.LicenseExpires = reply.License, reply.LicenseExpires
		s.book.licensed(reply.LicenseExpires)
	}
	s.current = nil
	return s.probe(ctx, needed(reply).Appliances)
}
