package player

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

// A play is one leg after another: each begins with an empty buffer, and ends
// at the end of what was wanted, with a jump, or when the viewer walks away.
var (
	errSeek = errors.New("the viewer jumps")
	errLeft = errors.New("the viewer walks away")
)

// leg fetches and plays until the leg's end. It fails with errSeek or errLeft
// when the viewer does so; what was being fetched is then cut off.
func (s *session) leg(ctx context.Context) error {
	ctx, stop := s.attention(ctx)
	defer stop()
	err := s.steps(ctx)
	if cause := context.Cause(ctx); err != nil && (errors.Is(cause, errSeek) || errors.Is(cause, errLeft)) {
		if errors.Is(cause, errLeft) {
			s.book.with(func(r *Report) { r.Left = true })
		}
		return cause
	}
	return err
}

func (s *session) steps(ctx context.Context) error {
	for s.upcoming = s.first; s.upcoming < s.last; {
		if err := s.step(ctx); err != nil {
			return err
		}
	}
	return s.playOut(ctx)
}

// look is how soon at the earliest a mark is looked for again.
const look = 5 * time.Millisecond

// attention cancels a leg when the viewer jumps or walks away.
func (s *session) attention(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stops := []func(){func() { cancel(nil) }}
	if s.opts.Until != nil {
		stop := context.AfterFunc(s.opts.Until, func() { cancel(errLeft) })
		stops = append(stops, func() { stop() })
	}
	if mark, cause := s.mark(); cause != nil {
		var timer *time.Timer
		armed := make(chan struct{})
		timer = time.AfterFunc(s.until(mark), func() {
			<-armed
			if s.book.seen(s.now()) >= mark {
				cancel(cause)
				return
			}
			if ctx.Err() == nil {
				timer.Reset(s.until(mark))
			}
		})
		close(armed)
		stops = append(stops, func() { timer.Stop() })
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
	}
}

// mark is how much media the viewer watches before the next jump, or before
// walking away; the cause is nil for neither.
func (s *session) mark() (at time.Duration, cause error) {
	if s.opts.Leave > 0 {
		at, cause = seconds(s.opts.Leave), errLeft
	}
	if len(s.seeks) > 0 && (cause == nil || seconds(s.seeks[0].After) < at) {
		at, cause = seconds(s.seeks[0].After), errSeek
	}
	return at, cause
}

// until is how long it takes at least until so much has been watched.
func (s *session) until(mark time.Duration) time.Duration {
	now := s.now()
	left := mark - s.book.seen(now)
	return max(time.Duration(float64(left)/s.opts.Speed), look)
}

// jump goes to where the next seek wants to.
func (s *session) jump() error {
	if err := s.drain(); err != nil {
		return err
	}
	to := s.seeks[0].To
	s.seeks = s.seeks[1:]
	seen := s.book.seen(s.now())
	at := s.from(min(seconds(to), s.length-s.segment))
	s.wanted = s.length - at
	if w := seconds(s.opts.Seconds); w > 0 {
		s.wanted = min(s.wanted, max(w-seen, s.segment))
	}
	s.sounds, s.soundsNew = nil, 0
	s.book.seek(at, s.now())
	return nil
}

// headOnly asks the best appliance for the head of the title's index and lets
// the title's time pass, with every report to the API that a play makes.
func (s *session) headOnly(ctx context.Context) error {
	if err := s.probe(ctx, s.reply.Appliances); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.book.note(err)
	}
	if err := s.head(ctx); err != nil {
		return err
	}
	s.length = time.Duration(s.reply.DurationMS) * time.Millisecond
	wanted := s.length
	if w := seconds(s.opts.Seconds); w > 0 && w < wanted {
		wanted = w
	}
	now := s.now()
	s.book.begins(0, s.length)
	s.book.shows(s.asked, now, false)
	s.book.runs(wanted, now)
	s.seeks = nil // there is nothing to jump in
	ctx, stop := s.attention(ctx)
	defer stop()
	err := sleep(ctx, time.Duration(float64(wanted)/s.opts.Speed))
	if errors.Is(context.Cause(ctx), errLeft) {
		s.book.with(func(r *Report) { r.Left = true })
		return nil
	}
	return err
}

// head asks appliances in order until one says that it has the title.
func (s *session) head(ctx context.Context) (err error) {
	ctx, span := s.tel.Tracer.Start(ctx, "head")
	defer func() { telemetry.End(span, err) }()
	o := object{name: "index", path: s.reply.IndexPath, data: s.cmcd("m", 0, 0)}
	for {
		src, err := s.source(ctx)
		if err != nil {
			return err
		}
		span.SetAttributes(attribute.String("appliance", src.Name))
		s.p.bufs.hands.apart(func() { err = s.headOf(ctx, src, o) })
		if err == nil {
			s.received(src, 0)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.failed(src, o, err)
	}
}

func (s *session) headOf(ctx context.Context, src *source, o object) error {
	ctx, cancel := context.WithTimeout(ctx, s.timing.FetchPatience.D())
	defer cancel()
	req, err := src.ask(ctx, http.MethodHead, o.path)
	if err != nil {
		return err
	}
	o.data.set(req.Header)
	resp, err := src.do(req)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return services.Errorf(services.KindFromHTTP(resp.StatusCode), "it answers %s", resp.Status)
	}
	return nil
}
