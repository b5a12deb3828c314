package player

import (
	"cmp"
	"context"
	"crypto/tls"
	"math"
	"net"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/play"
	"github.com/flix-lab/flix/services/telemetry"
)

const (
	// handshakes is how many of the candidates are probed with TLS, and
	// leanHandshakes by a player that shall cost little.
	handshakes, leanHandshakes = 2, 1
	// maxCandidates bounds what is probed.
	maxCandidates = 10
	// unknown is a time that has not been measured: it sorts last.
	unknown = time.Duration(math.MaxInt64)
)

// stage is how far the probe of an appliance has come.
type stage int

const (
	waiting stage = iota // for those of better ranks
	connecting
	connected // and the connection is held
	reached   // it answered, and the connection was not needed
	securing
	secured // the connection waits for the first request
	failed
)

// probing is the probe of the appliances that one answer of the play API
// offered. It connects to all of them at once and secures the best two; a lean
// one connects to those of the best rank, and goes on to the next one only when
// none of them can be reached, since rank comes first all the same. A play
// begins with the first that nothing under way can come before; it does not
// wait for those farther away, whose results are taken in as they come. The
// play's goroutine owns it: others do the connecting, and tell by events.
type probing struct {
	s     *session
	began time.Time
	// offered in steering's order, sources by preference.
	offered, sources []*source
	// chosen is where playback began; nil while nobody could be reached.
	chosen *source
	// spawn runs a step beside the play and queues what came of it; cancel
	// ends those under way.
	spawn  func(step func(context.Context) outcome)
	cancel context.CancelFunc
	// outcomes has room for all that can come, so that no step waits.
	outcomes chan outcome
	steps    sync.WaitGroup
}

// outcome is what came of one connect or one handshake.
type outcome struct {
	src *source
	// conn after a connect, tls after a handshake, neither after a failure.
	conn net.Conn
	tls  *tls.Conn
	took time.Duration
	// since is when the step ended, from the begin of the probe.
	since time.Duration
	err   error
}

// probe probes appliances in the place of those probed before. When it returns
// s.sources is in order of preference: rank first, then measured time, those
// that did not answer last and penalised. It fails when none can be reached.
func (s *session) probe(ctx context.Context, offered []play.Appliance) (err error) {
	s.probing.stop()
	ctx, span := s.tel.Tracer.Start(ctx, "probe")
	defer func() { telemetry.End(span, err) }()
	p := s.newProbing(ctx, offered)
	s.probing, s.sources = p, p.sources
	p.open()
	for !p.decided() && ctx.Err() == nil {
		select {
		case o := <-p.outcomes:
			p.take(o)
		case <-ctx.Done():
		}
	}
	span.SetAttributes(attribute.Int("probe.offered", len(offered)), attribute.Int("probe.connecting", p.count(connecting)), attribute.Int("probe.failed", p.count(failed)))
	if err := ctx.Err(); err != nil {
		return err
	}
	if p.chosen = p.best(); p.chosen == nil {
		return services.Errorf(services.Unavailable, "none of %d appliances could be reached", len(offered)).WithReason(services.ReasonPlayFailed)
	}
	return nil
}

func (s *session) newProbing(ctx context.Context, offered []play.Appliance) *probing {
	p := &probing{s: s, began: s.now()}
	for _, a := range offered[:min(len(offered), maxCandidates)] {
		src, err := newSource(a, s.conn, s.names, s.opts.lean())
		if err != nil {
			s.book.note(err)
			continue
		}
		p.offered = append(p.offered, src)
	}
	p.sources = slices.Clone(p.offered)
	slices.SortStableFunc(p.sources, s.prefer)
	p.outcomes = make(chan outcome, 2*len(p.offered)) // a connect and a handshake of each
	ctx, p.cancel = context.WithCancel(ctx)
	p.spawn = func(step func(context.Context) outcome) {
		p.steps.Go(func() { p.outcomes <- step(ctx) })
	}
	return p
}

// prefer orders sources by what is known of them by now. Of one rank those
// that are still awaited come last, since they take longer than the others
// did; so nothing that comes later changes the order of those that answered.
func (s *session) prefer(a, b *source) int {
	return cmp.Or(
		// One that sent wrong bytes before is the last resort.
		boolOrder(s.wrong[a.Name], s.wrong[b.Name]),
		boolOrder(a.stage == failed, b.stage == failed),
		cmp.Compare(a.Rank, b.Rank),
		cmp.Compare(a.ready, b.ready), cmp.Compare(a.connect, b.connect))
}

func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// best is the first source that has not failed, or nil.
func (p *probing) best() *source {
	if i := slices.IndexFunc(p.sources, func(src *source) bool { return src.stage != failed }); i >= 0 {
		return p.sources[i]
	}
	return nil
}

// decided says that nothing under way can come before the best source.
func (p *probing) decided() bool {
	b := p.best()
	return b == nil || b.stage == secured || b.stage == reached
}

func (p *probing) count(st stage) (n int) {
	for _, src := range p.sources {
		if src.stage == st {
			n++
		}
	}
	return n
}

// open connects to whom the turn is: all at once, or of a lean play those that
// rank with the best that has not failed.
func (p *probing) open() {
	best := p.best()
	for _, src := range p.sources {
		if src.stage != waiting || p.s.opts.lean() && (src.Rank != best.Rank || p.s.wrong[src.Name] != p.s.wrong[best.Name]) {
			continue
		}
		src.stage = connecting
		p.spawn(func(ctx context.Context) outcome { return p.connect(ctx, src) })
	}
}

// take books an outcome and goes on with what it allows.
func (p *probing) take(o outcome) {
	src := o.src
	switch {
	case o.err != nil && src == p.s.current:
		// It delivers all the same, on a connection of its own.
		src.probeErr = o.err
		return
	case o.err != nil:
		src.stage, src.probeErr = failed, o.err
		src.penalise(p.s.now(), p.s.timing.HealthReport.D(), p.s.timing.ReportExpiry.D())
	case o.tls != nil:
		src.stage, src.handshake, src.ready = secured, o.took, o.since
		src.keep(o.tls)
	default:
		src.stage, src.connect, src.raw = connected, o.took, o.conn
	}
	slices.SortStableFunc(p.sources, p.s.prefer)
	p.open()
	p.secure()
}

// secure starts the handshakes of the best connected sources, as far as their
// place is certain, and closes the connections that are not needed.
func (p *probing) secure() {
	warm, most := 0, handshakes
	if p.s.opts.lean() {
		most = leanHandshakes
	}
	for _, src := range p.sources {
		switch src.stage {
		case waiting, connecting:
			return // it may come before all that follow
		case securing, secured:
			warm++
		case connected:
			conn := src.raw
			src.raw = nil
			if warm == most {
				src.stage = reached
				_ = conn.Close() // nothing was asked on it
				continue
			}
			warm++
			src.stage = securing
			p.spawn(func(ctx context.Context) outcome { return p.handshake(ctx, src, conn) })
		}
	}
}

// absorb takes in what has come since, without waiting. It does nothing on a
// nil probing.
func (p *probing) absorb() {
	if p == nil {
		return
	}
	for {
		select {
		case o := <-p.outcomes:
			p.take(o)
		default:
			return
		}
	}
}

// stop ends the probe, waits for its steps and books it. It does nothing on a
// nil probing.
func (p *probing) stop() {
	if p == nil {
		return
	}
	p.absorb()
	p.cancel()
	p.steps.Wait()
	for len(p.outcomes) > 0 {
		switch o := <-p.outcomes; {
		case o.conn != nil:
			_ = o.conn.Close() // nothing was asked on it
		case o.tls != nil:
			_ = o.tls.NetConn().Close()
		}
	}
	for _, src := range p.sources {
		if src.raw != nil {
			_ = src.raw.Close()
		}
	}
	p.s.book.candidates(p.offered, p.chosen)
	p.s.probing = nil
}

// connect finds the appliance's address and connects.
func (p *probing) connect(ctx context.Context, src *source) outcome {
	ctx, cancel := context.WithTimeout(ctx, p.s.timing.ProbeTimeout.D())
	defer cancel()
	addr, err := src.locate(ctx)
	if err != nil {
		return outcome{src: src, err: err}
	}
	start := p.s.now()
	conn, err := p.s.conn.tcp(ctx, addr)
	if err != nil {
		return outcome{src: src, err: err} // not the typed nil of a failed dial
	}
	now := p.s.now()
	return outcome{src: src, conn: conn, took: now.Sub(start), since: now.Sub(p.began)}
}

// handshake secures a connection. It closes it on failure.
func (p *probing) handshake(ctx context.Context, src *source, conn net.Conn) outcome {
	ctx, cancel := context.WithTimeout(ctx, p.s.timing.ProbeTimeout.D())
	defer cancel()
	start := p.s.now()
	t, err := p.s.conn.tls(ctx, conn, src.host, "http/1.1")
	if err != nil {
		return outcome{src: src, err: err}
	}
	now := p.s.now()
	return outcome{src: src, tls: t, took: now.Sub(start), since: now.Sub(p.began)}
}
