package player

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/media"
	"github.com/flix-lab/flix/services/play"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// Hosts of the public API.
const (
	hostDiscovery = "api.flix.test"
	hostPlay      = "play.flix.test"
)

// What the API says of who answered.
const (
	headerRegion  = "X-Flix-Region"
	headerGateway = "X-Flix-Gateway"
)

// nearEnd is how close to the end, in media time, a bookmark starts the title
// over.
const nearEnd = 2 * time.Second

// session is one play.
type session struct {
	p      *Player
	opts   Options
	place  place
	tel    *telemetry.Telemetry
	timing topology.Timing
	now    func() time.Time
	id     string
	keys   atomic.Uint64

	names            *resolver
	conn             *connector
	finding, playing *control
	adapt            *adaptation // nil before the index is there
	book             *book
	teller           *teller
	saver            *saver

	reply play.StartReply
	asked time.Time // when the play request was sent
	// sources by preference; current is the one streamed from.
	sources []*source
	current *source
	probing *probing // nil before the first probe
	// fruitless counts renewals since something was received; lenience grows
	// while every appliance is slow.
	fruitless int
	lenience  float64
	// wrong names the appliances that sent wrong bytes.
	wrong map[string]bool

	index media.Index
	rungs []media.Track // lowest first
	audio *media.Track
	inits map[string]bool
	// The video segments of [first, last) are played; upcoming is the next to
	// be appended, sound the next audio segment. heard is how far audio reaches.
	first, last, upcoming, sound int
	heard                        time.Duration
	// ahead is what is buffered. sounds and soundsNew are audio that came for
	// a video segment which has not come yet: its bytes if they are saved, and
	// how many.
	ahead     []held
	sounds    [][]byte
	soundsNew int
	length    time.Duration // of the title
	// segment is the length of a usual one; wanted is the media to play.
	segment, wanted time.Duration
	throughput      atomic.Int64 // kbit/s, for the live line
	rebuffersSeen   int
	seeks           []Seek // still to come
}

// Play plays one title and returns when it has ended, failed, or ctx ended.
// The report is as complete as the play was, also beside an error; errors are
// of the kinds of package services, those of the API passed through.
func (p *Player) Play(ctx context.Context, o Options) (Report, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return newReport(), err
	}
	where, err := placeOf(p.cfg.Topology, o)
	if err != nil {
		return newReport(), err
	}
	s := p.session(o, where)
	ctx, span := s.tel.Tracer.Start(ctx, "play "+o.Title)
	span.SetAttributes(attribute.String("session.id", s.id), attribute.String("client.address", where.ip.String()), attribute.String("client.isp", where.isp.Name))
	s.book.with(func(r *Report) { r.TraceID = telemetry.TraceID(ctx) })
	err = s.run(ctx)
	s.hangUp()
	report := s.book.close(s.now())
	telemetry.End(span, err)
	return report, err
}

func (p *Player) session(o Options, where place) *session {
	c := p.cfg
	s := &session{
		p: p, opts: o, place: where, tel: c.Tel, timing: c.Topology.Timing, now: c.Clock, id: newID(),
		lenience: 1, seeks: o.Seeks, inits: make(map[string]bool), wrong: make(map[string]bool),
	}
	s.book = &book{gauge: o.Gauge, clock: playout{speed: o.Speed}, r: newReport()}
	s.book.with(func(r *Report) {
		r.SessionID, r.ClientIP, r.ISP = s.id, where.ip.String(), where.isp.Name
		r.Country, r.Device, r.ABR = where.isp.Country, o.Device, o.ABR
	})
	dial := c.Dial(where.home)
	if c.DialISP != nil {
		dial = c.DialISP(where.home, where.isp.Name)
	}
	s.conn = &connector{
		dial: dial, client: where.ip, link: linkOf(o), trust: p.trust,
		tickets: o.Tickets, lean: o.lean(), bufs: p.bufs, open: make(map[*tracked]struct{}),
	}
	if s.conn.tickets == nil {
		s.conn.tickets = NewTickets()
	}
	s.names = &resolver{
		tel: c.Tel, dial: dial, client: subnet(where.ip), now: c.Clock, cache: make(map[string]answer),
		retryAfter: s.timing.DNSTTL.D(), servers: s.servers(),
	}
	var far time.Duration
	for _, name := range c.Topology.RegionNames() {
		far = max(far, c.Topology.RTT(where.home, name).D())
	}
	s.finding = newControl(hostDiscovery, s.conn, s.names, c.Tel, s.timing, far, o.lean())
	s.playing = newControl(hostPlay, s.conn, s.names, c.Tel, s.timing, far, o.lean())
	return s
}

// servers lists the DNS servers, nearest region first. One that is silent is
// given up on after a quarter of what a call between services may take, and
// the round trip.
func (s *session) servers() []dnsServer {
	var out []dnsServer
	t := s.p.cfg.Topology
	for _, region := range t.Nearest(s.place.home) {
		for _, r := range s.p.cfg.Resolvers {
			if r.Region == region {
				out = append(out, dnsServer{addr: r.Address, timeout: s.timing.RPCTimeout.D()/4 + t.RTT(s.place.home, region).D()})
			}
		}
	}
	return out
}

// hangUp ends the connections, the idle ones first.
func (s *session) hangUp() {
	s.leaveSources()
	s.finding.transport.CloseIdleConnections()
	s.playing.transport.CloseIdleConnections()
	s.conn.close()
}

// leaveSources ends the probe and the connections to appliances.
func (s *session) leaveSources() {
	s.probing.stop()
	for _, src := range s.sources {
		src.drop()
	}
}

func newID() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return "ps-" + hex.EncodeToString(b[:])
}

// key makes an idempotency key of a call.
func (s *session) key(what string) string {
	return fmt.Sprintf("%s-%s-%d", s.id, what, s.keys.Add(1))
}

func (s *session) license() string { return s.reply.License }

// run does the whole play.
func (s *session) run(ctx context.Context) (err error) {
	if s.saver, err = newSaver(s.opts); err != nil {
		return err
	}
	defer func() {
		if derr := s.saver.discard(); derr != nil {
			s.book.note(derr)
		}
	}()
	token, err := s.signIn(ctx)
	if err != nil {
		return err
	}
	s.finding.token, s.playing.token = token, token
	if err := s.browse(ctx); err != nil {
		return err
	}
	title, err := s.find(ctx)
	if err != nil {
		return err
	}
	if s.opts.lean() {
		s.finding.transport.CloseIdleConnections() // there is nothing left to find
	}
	if err := s.start(ctx, title); err != nil {
		return err
	}
	s.teller = newTeller(ctx, s)
	defer func() { s.teller.stop(ctx, err) }()
	if s.opts.Mode == Head {
		err = s.headOnly(ctx)
	} else {
		err = s.stream(ctx)
	}
	if derr := s.drain(); err == nil {
		err = derr
	}
	if err != nil {
		return err
	}
	return s.saver.commit()
}

// start asks to play.
func (s *session) start(ctx context.Context, title string) (err error) {
	ctx, span := s.tel.Tracer.Start(ctx, "start")
	defer func() { telemetry.End(span, err) }()
	s.book.with(func(r *Report) { r.TitleID = title })
	s.asked = s.now()
	in := play.StartRequest{Session: s.id, Title: title, Device: s.opts.Device, Height: s.opts.Height}
	header, err := s.playing.call(ctx, persistent, http.MethodPost, play.PathStart, s.id, in, &s.reply)
	if err != nil {
		return services.Wrap("play "+title, err)
	}
	s.reply = needed(s.reply)
	if s.reply.Title == "" {
		s.reply.Title = title
	}
	s.book.with(func(r *Report) {
		r.TitleID, r.LicenseExpires = s.reply.Title, s.reply.LicenseExpires
		r.Region, r.Gateway = header.Get(headerRegion), header.Get(headerGateway)
		if r.Region == "" {
			r.Region = s.reply.Region
		}
		if s.reply.Country != "" {
			r.Country = s.reply.Country
		}
	})
	return nil
}

// needed is what this player goes by of an answer, which it holds for as long as
// it plays: without what is for stock players, about half of it.
func needed(r play.StartReply) play.StartReply {
	r.Stock, r.Streams, r.DASHPath, r.HLSPath = play.Stock{}, nil, "", ""
	for i := range r.Appliances {
		r.Appliances[i].PlainURL, r.Appliances[i].Pathway = "", ""
	}
	return r
}

func (s *session) progress() Progress {
	return s.book.progress(s.opts.Title, float64(s.throughput.Load()), s.now())
}
