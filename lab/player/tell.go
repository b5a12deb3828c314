package player

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/play"
)

// maxSuspects bounds the reports of wrong bytes that wait to be sent.
const maxSuspects = 16

// teller reports to the play API beside the play: a report that fails or is
// slow never holds playback up, but is booked.
type teller struct {
	s        *session
	sequence uint64 // of its goroutine, then of stop
	suspects chan *play.SuspectRequest
	// ended closes when the play has; what is being sent then is still sent.
	ended chan struct{}
	wg    sync.WaitGroup
}

// newTeller starts to report progress, and to observe if somebody asked to.
func newTeller(ctx context.Context, s *session) *teller {
	t := &teller{s: s, suspects: make(chan *play.SuspectRequest, maxSuspects), ended: make(chan struct{})}
	t.wg.Go(func() { t.run(ctx) })
	if s.p.cfg.Observe != nil {
		t.wg.Go(func() { t.observe(ctx) })
	}
	return t
}

func (t *teller) run(ctx context.Context) {
	t.report(ctx, "start", brief, nil)
	interval := t.s.timing.ProgressReport.D()
	if interval <= 0 {
		interval = time.Second
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.ended:
			return
		case <-tick.C:
			t.report(ctx, "progress", brief, nil)
		case in := <-t.suspects:
			t.sendSuspect(ctx, in)
		}
	}
}

// observe shows a snapshot about once per second.
func (t *teller) observe(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		t.s.p.cfg.Observe(t.s.progress())
		select {
		case <-ctx.Done():
			return
		case <-t.ended:
			return
		case <-tick.C:
		}
	}
}

// suspect queues a report that bytes of an appliance were wrong.
func (t *teller) suspect(in *play.SuspectRequest) {
	select {
	case t.suspects <- in:
	default:
		t.s.book.note(services.Errorf(services.Exhausted, "report of wrong bytes of %s: too many are waiting", in.Appliance))
	}
}

func (t *teller) sendSuspect(ctx context.Context, in *play.SuspectRequest) {
	if _, err := t.s.playing.call(ctx, persistent, http.MethodPost, play.PathSuspect, t.s.key("suspect"), in, nil); err != nil && ctx.Err() == nil {
		t.s.book.note(services.Wrap("report wrong bytes of "+in.Appliance, err))
	}
}

func (t *teller) report(ctx context.Context, kind string, attempts int, cause error) {
	s := t.s
	in := s.book.tell(kind, s.now())
	t.sequence++
	in.Session, in.Title, in.Sequence, in.Device = s.id, s.reply.Title, t.sequence, s.opts.Device
	if cause != nil {
		in.Error = cause.Error()
	}
	if kind == "stop" {
		in.License = s.license()
	}
	key := fmt.Sprintf("%s-report-%d", s.id, in.Sequence)
	if _, err := s.playing.call(ctx, attempts, http.MethodPost, play.PathReport, key, in, nil); err != nil {
		s.book.untold(in)
		if ctx.Err() == nil || kind == "stop" {
			s.book.note(services.Wrap("report "+kind, err))
		}
	}
}

// stop ends reporting with the last word: an error if there was one, what is
// still queued, and the stop that releases the licence. It is said even when
// the play was cancelled, within a bounded time.
func (t *teller) stop(ctx context.Context, cause error) {
	close(t.ended)
	t.wg.Wait()
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), t.s.timing.LastWord.D())
		defer cancel()
	}
	for len(t.suspects) > 0 {
		t.sendSuspect(ctx, <-t.suspects)
	}
	if cause != nil {
		t.report(ctx, "error", brief, cause)
	}
	t.report(ctx, "stop", persistent/2, nil)
	if t.s.p.cfg.Observe != nil {
		t.s.p.cfg.Observe(t.s.progress())
	}
}
