package player

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/play"
	"github.com/flix-lab/flix/services/telemetry"
)

const (
	// probeTimeout bounds the connects of a probe, and its TLS handshakes.
	probeTimeout = 500 * time.Millisecond
	// handshakes is how many of the candidates are probed with TLS.
	handshakes = 2
	// maxCandidates bounds what is probed.
	maxCandidates = 10
)

// probe connects to all candidates at once and secures the best two. It
// returns them in order of preference: rank first, then measured time, those
// that did not answer last and penalised. The best two keep their connection.
func (s *session) probe(ctx context.Context, offered []play.Appliance) (sources []*source, err error) {
	ctx, span := s.tel.Tracer.Start(ctx, "probe")
	defer func() { telemetry.End(span, err) }()
	for _, a := range offered[:min(len(offered), maxCandidates)] {
		src, err := newSource(a, s.conn)
		if err != nil {
			s.book.note(err)
			continue
		}
		sources = append(sources, src)
	}
	offeredOrder := slices.Clone(sources)
	conns := make([]net.Conn, len(sources))
	each(len(sources), func(i int) { conns[i] = s.probeConnect(ctx, sources[i]) })
	byTime := func(a, b *source) int {
		return cmp.Or(
			boolOrder(a.probeErr != nil, b.probeErr != nil),
			cmp.Compare(a.Rank, b.Rank),
			cmp.Compare(a.handshake, b.handshake), cmp.Compare(a.connect, b.connect))
	}
	open := make(map[*source]net.Conn, len(sources))
	for i, src := range sources {
		open[src] = conns[i]
	}
	slices.SortStableFunc(sources, byTime)
	best := min(handshakes, len(sources))
	each(best, func(i int) { s.probeTLS(ctx, sources[i], open[sources[i]]) })
	for _, src := range sources[best:] {
		if c := open[src]; c != nil {
			_ = c.Close() // only the best are kept warm
		}
	}
	slices.SortStableFunc(sources[:best], byTime)
	if best > 0 && sources[0].probeErr != nil { // a handshake failed: the untried come first
		slices.SortStableFunc(sources, func(a, b *source) int { return boolOrder(a.probeErr != nil, b.probeErr != nil) })
	}
	// One that sent wrong bytes before is the last resort.
	slices.SortStableFunc(sources, func(a, b *source) int { return boolOrder(s.wrong[a.Name], s.wrong[b.Name]) })
	now := s.now()
	reached := 0
	for _, src := range sources {
		if src.probeErr != nil {
			src.penalise(now, s.timing.HealthReport.D(), s.timing.ReportExpiry.D())
			continue
		}
		reached++
	}
	span.SetAttributes(attribute.Int("probe.offered", len(offered)), attribute.Int("probe.reached", reached))
	s.book.candidates(offeredOrder, sources)
	if err := ctx.Err(); err != nil {
		return sources, err
	}
	if reached == 0 {
		return sources, services.Errorf(services.Unavailable, "none of %d appliances could be reached", len(offered)).WithReason(services.ReasonPlayFailed)
	}
	return sources, nil
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

// each runs f for 0 to n-1 at once and waits.
func each(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// probeConnect finds the appliance's address and connects.
func (s *session) probeConnect(ctx context.Context, src *source) net.Conn {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if src.probeErr = src.locate(ctx, s.names); src.probeErr != nil {
		return nil
	}
	start := s.now()
	conn, err := s.conn.tcp(ctx, src.addr)
	src.connect, src.probeErr = s.now().Sub(start), err
	if err != nil {
		return nil // not the typed nil of a failed dial
	}
	return conn
}

// locate resolves the appliance's host.
func (s *source) locate(ctx context.Context, names *resolver) error {
	if ip, err := netip.ParseAddr(s.host); err == nil {
		s.addr = netip.AddrPortFrom(ip, s.port)
		return nil
	}
	addrs, err := names.host(ctx, s.host)
	if err != nil {
		return err
	}
	s.addr = netip.AddrPortFrom(addrs[0].Addr(), s.port)
	return nil
}

// probeTLS secures a connection and keeps it for the first request.
func (s *session) probeTLS(ctx context.Context, src *source, conn net.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	start := s.now()
	t, err := s.conn.tls(ctx, conn, src.host, "http/1.1")
	src.handshake, src.probeErr = s.now().Sub(start), err
	if err != nil {
		return
	}
	src.mu.Lock()
	src.warm = t
	src.mu.Unlock()
}
