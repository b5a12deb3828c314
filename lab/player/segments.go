package player

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/flix-lab/flix/lab/player/abr"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/media"
)

// stream probes, fetches and plays until what was asked for has been played.
func (s *session) stream(ctx context.Context) error {
	if err := s.probe(ctx, s.reply.Appliances); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.book.note(err)
	}
	if err := s.loadIndex(ctx); err != nil {
		return err
	}
	for {
		if err := s.adaptTo(); err != nil {
			return err
		}
		err := s.leg(ctx)
		switch {
		case errors.Is(err, errLeft):
			return nil
		case errors.Is(err, errSeek):
			if err := s.jump(); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// loadIndex fetches the title's index and works out what to play of it.
func (s *session) loadIndex(ctx context.Context) error {
	d, err := s.fetch(ctx, object{name: "index", path: s.reply.IndexPath, sum: s.reply.IndexSHA256, data: s.cmcd("m", 0, 0)})
	if err != nil {
		return err
	}
	if s.index, err = s.p.index(s.reply.IndexSHA256, d.b); err != nil {
		return &services.Error{Op: "play " + s.reply.Title, Kind: services.Internal, Msg: "the title's index is wrong", Err: err}
	}
	if s.index.Title != s.reply.Title || s.index.Version != s.reply.Version {
		return services.Errorf(services.Internal, "the index is of %s version %d, the play API said %s version %d", s.index.Title, s.index.Version, s.reply.Title, s.reply.Version)
	}
	most := s.reply.MaxHeight
	if s.opts.Height > 0 && (most == 0 || s.opts.Height < most) {
		most = s.opts.Height
	}
	for _, t := range s.index.Tracks {
		switch {
		case t.Kind == media.KindAudio && s.audio == nil:
			s.audio = &t
		case t.Kind == media.KindVideo && (most == 0 || t.Height <= most):
			s.rungs = append(s.rungs, t)
		}
	}
	if len(s.rungs) == 0 {
		return services.Errorf(services.NotFound, "%s has no video of at most %d lines", s.reply.Title, most).WithReason("no_such_rung").WithRemedy("ask for more lines by --height")
	}
	slices.SortStableFunc(s.rungs, func(a, b media.Track) int { return a.Kbps - b.Kbps })
	video := s.rungs[0].Segments
	for _, seg := range video {
		s.length += segmentTime(seg)
	}
	s.segment = segmentTime(video[0])
	var mark time.Duration
	if m := seconds(s.reply.PositionS); s.opts.Resume && m < s.length-nearEnd {
		mark = m
	}
	at := s.from(mark)
	s.wanted = s.length - at
	if w := seconds(s.opts.Seconds); w > 0 && w < s.wanted {
		s.wanted = w
	}
	s.book.begins(at, s.length)
	return nil
}

// from makes the segment that holds a position the first one, and returns where
// it begins.
func (s *session) from(mark time.Duration) (at time.Duration) {
	video := s.rungs[0].Segments
	s.first, s.sound, s.heard = 0, 0, 0
	for s.first+1 < len(video) && at+segmentTime(video[s.first]) <= mark {
		at += segmentTime(video[s.first])
		s.first++
	}
	if s.audio != nil {
		for s.sound+1 < len(s.audio.Segments) && s.heard+segmentTime(s.audio.Segments[s.sound]) <= at {
			s.heard += segmentTime(s.audio.Segments[s.sound])
			s.sound++
		}
	}
	// From here on heard is relative to where playback begins.
	s.heard -= at
	return at
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func segmentTime(seg media.Segment) time.Duration {
	return time.Duration(seg.DurationMS) * time.Millisecond
}

// adaptTo works out how many segments make up what is wanted, and makes the
// algorithm that chooses their rungs.
func (s *session) adaptTo() (err error) {
	video := s.rungs[0].Segments
	var sum time.Duration
	for s.last = s.first; s.last < len(video) && sum < s.wanted; s.last++ {
		sum += segmentTime(video[s.last])
	}
	// The algorithm is not told that somebody stops before the end: no viewer's
	// device knows.
	before := s.adapt
	s.adapt, err = newAdaptation(s.opts.ABR, s.rungs, s.audio, s.first, s.segment, s.timing.BufferAhead.D(), s.opts.Speed)
	if before != nil && err == nil {
		s.adapt.estimate = before.estimate // the network is the same after a jump
	}
	return err
}

// step makes one transfer: it replaces a buffered segment, or appends the next
// one once the buffer has room for it.
func (s *session) step(ctx context.Context) error {
	clock := s.book.at(s.now())
	if err := s.release(clock); err != nil {
		return err
	}
	if s.upcoming == s.first {
		return s.next(ctx, s.adapt.algo.First())
	}
	over := clock.buffer() + s.segment - s.timing.BufferAhead.D()
	if r, yes := s.adapt.algo.Replace(s.view(clock), over > 0); yes {
		return s.replace(ctx, r)
	}
	if over > 0 {
		wait := clock.wall(over)
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		s.adapt.algo.Waited(millis(wait))
		clock = s.book.at(s.now())
		if err := s.release(clock); err != nil {
			return err
		}
	}
	c := s.adapt.algo.Next(s.view(clock))
	if err := sleep(ctx, time.Duration(c.WaitMS*float64(time.Millisecond))); err != nil {
		return err
	}
	return s.next(ctx, s.steady(c.Rung, clock))
}

// upBuffer, in segments, is the least buffer that a step up is taken with: two
// segments less what plays while the second one comes.
const upBuffer = 1.75

// steady holds a step up back while the buffer is thin. A device's own hiccups
// are in no throughput that an algorithm has seen.
func (s *session) steady(rung int, clock playout) int {
	if len(s.ahead) == 0 || clock.buffer() >= time.Duration(upBuffer*float64(s.segment)) {
		return rung
	}
	return min(rung, s.ahead[len(s.ahead)-1].rung)
}

func (s *session) view(clock playout) abr.View { return s.adapt.view(s.upcoming, clock, s.ahead) }

// next fetches the upcoming video segment in a rung, and the audio up to its
// end, and buffers both. If the algorithm gives the video up, what is there
// stays, and it is asked again.
func (s *session) next(ctx context.Context, rung int) error {
	rung = min(max(rung, 0), len(s.rungs)-1)
	track, i := s.rungs[rung], s.upcoming
	length := segmentTime(track.Segments[i])
	x := &transfer{Progress: abr.Progress{Segment: i - s.first, Rung: rung, Bits: 8 * float64(track.Segments[i].Size)}}
	end := s.book.at(s.now()).end + length
	if err := s.fetchAudio(ctx, end, x); err != nil {
		return err
	}
	if err := s.fetchInit(ctx, track); err != nil {
		return err
	}
	b, err := s.fetchSegment(ctx, track, i, x)
	if err != nil {
		return err
	}
	if x.abandoned {
		s.book.abandoned(x.bytes)
	} else {
		h := held{index: i, rung: rung, length: length}
		if s.saver != nil {
			h.video, h.audio = b, s.sounds
		}
		s.hold(h, s.soundsNew)
		s.sounds, s.soundsNew = nil, 0
		s.upcoming++
		if i == s.first {
			s.book.shows(s.asked, s.now(), s.opts.Mode == Full)
		}
	}
	s.done(x)
	return nil
}

// replace fetches a buffered segment again in another rung. It takes the old
// one's place unless that has begun to play meanwhile.
func (s *session) replace(ctx context.Context, r abr.Replacement) error {
	if r.Buffered < 0 || r.Buffered >= len(s.ahead) || r.Rung < 0 || r.Rung >= len(s.rungs) {
		return services.Errorf(services.Internal, "the algorithm replaces segment %d of %d by rung %d of %d", r.Buffered, len(s.ahead), r.Rung, len(s.rungs))
	}
	i, track := s.ahead[r.Buffered].index, s.rungs[r.Rung]
	x := &transfer{Progress: abr.Progress{Segment: i - s.first, Rung: r.Rung, Replaces: true, Bits: 8 * float64(track.Segments[i].Size)}}
	if err := s.fetchInit(ctx, track); err != nil {
		return err
	}
	b, err := s.fetchSegment(ctx, track, i, x)
	if err != nil {
		return err
	}
	clock := s.book.at(s.now())
	if err := s.release(clock); err != nil {
		return err
	}
	at := slices.IndexFunc(s.ahead, func(h held) bool { return h.index == i && h.at >= clock.pos })
	if x.abandoned || at < 0 {
		s.book.abandoned(x.bytes)
	} else {
		h := &s.ahead[at]
		s.book.replaced(int(s.rungs[h.rung].Segments[i].Size))
		h.rung = r.Rung
		if s.saver != nil {
			h.video = b
		}
	}
	s.done(x)
	return nil
}

// done tells the algorithm of a transfer that ended, whole or given up.
func (s *session) done(x *transfer) {
	t := abr.Transfer{Progress: x.Progress, Abandoned: x.abandoned, AbandonedTo: x.to}
	s.adapt.algo.Done(s.view(s.book.at(s.now())), t)
	s.adapt.learn(t)
	s.throughput.Store(int64(s.adapt.kbps()))
}

// transfer is what one segment's objects took together.
type transfer struct {
	abr.Progress
	// bytes of video that came; abandoned says that it was given up for the
	// rung to.
	bytes     int
	abandoned bool
	to        int
}

// add books an object that came whole.
func (x *transfer) add(bits float64, d delivery) {
	x.Received += bits
	x.ElapsedMS += millis(d.took)
	x.FirstByteMS += millis(d.first)
}

// fetchAudio gets audio until it reaches as far as the video will.
func (s *session) fetchAudio(ctx context.Context, end time.Duration, x *transfer) error {
	if s.audio == nil {
		return nil
	}
	if err := s.fetchInit(ctx, *s.audio); err != nil {
		return err
	}
	for s.sound < len(s.audio.Segments) && s.heard < end {
		seg := s.audio.Segments[s.sound]
		d, err := s.fetch(ctx, s.segmentObject(*s.audio, s.sound))
		if err != nil {
			return err
		}
		x.Bits += 8 * float64(seg.Size)
		x.add(8*float64(seg.Size), d)
		if s.saver != nil {
			s.sounds = append(s.sounds, d.b)
		}
		s.soundsNew++
		s.heard += segmentTime(seg)
		s.sound++
	}
	return nil
}

// fetchInit gets a track's initialisation segment once.
func (s *session) fetchInit(ctx context.Context, t media.Track) error {
	if s.inits[t.ID] {
		return nil
	}
	d, err := s.fetch(ctx, object{name: t.ID + "/init", path: t.Path, offset: t.Init.Offset, size: t.Init.Size, sum: t.Init.SHA256, data: s.cmcd("i", 0, 0), discard: s.opts.Mode == Light})
	if err != nil {
		return err
	}
	s.inits[t.ID] = true
	return services.Wrap("save", s.saver.init(t.Kind, d.b))
}

// segmentObject describes a segment for fetch.
func (s *session) segmentObject(t media.Track, i int) object {
	seg := t.Segments[i]
	o := object{
		name: fmt.Sprintf("%s/%d", t.ID, i+1), path: t.Path, offset: seg.Offset, size: seg.Size, sum: seg.SHA256,
		data:    s.cmcd(t.Kind[:1], t.Kbps, segmentTime(seg)), // "v" or "a"
		discard: s.opts.Mode == Light,
	}
	if i+1 < len(t.Segments) {
		n := t.Segments[i+1]
		o.data.following = fmt.Sprintf("%d-%d", n.Offset, n.Offset+n.Size-1)
	}
	return o
}

// fetchSegment gets a video segment under the eyes of the algorithm, which may
// give it up.
func (s *session) fetchSegment(ctx context.Context, t media.Track, i int, x *transfer) ([]byte, error) {
	o := s.segmentObject(t, i)
	before := x.Progress
	o.look = func(bytes int, elapsed, first time.Duration) bool {
		p := before
		p.Received += 8 * float64(bytes)
		p.ElapsedMS += millis(elapsed)
		p.FirstByteMS += millis(first)
		to, yes := s.adapt.algo.Progressed(s.view(s.book.at(s.now())), p)
		if yes {
			x.abandoned, x.to, x.bytes, x.Progress = true, to, bytes, p
		}
		return yes
	}
	d, err := s.fetch(ctx, o)
	if errors.Is(err, errAbandoned) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	x.bytes = d.n
	x.add(8*float64(d.n), d)
	return d.b, nil
}

// cmcd describes the player for a request.
func (s *session) cmcd(kind string, kbps int, d time.Duration) cmcd {
	clock := s.book.at(s.now())
	c := cmcd{
		session: s.id, title: s.reply.Title, object: kind, kbps: kbps, duration: d, buffer: clock.buffer(),
		startup: !clock.started || clock.dry, starved: clock.rebuffers > s.rebuffersSeen, throughput: s.adapt.kbps(), speed: s.opts.Speed,
	}
	s.rebuffersSeen = clock.rebuffers
	if len(s.rungs) > 0 && kind == "v" {
		c.topKbps = s.rungs[len(s.rungs)-1].Kbps
	}
	return c
}

// playOut waits until the clock has reached the end of what was wanted.
func (s *session) playOut(ctx context.Context) error {
	s.book.trim(s.wanted, s.now())
	if s.opts.lean() && len(s.seeks) == 0 {
		s.leaveSources() // there is nothing left to fetch
	}
	for {
		clock := s.book.at(s.now())
		if err := s.release(clock); err != nil {
			return err
		}
		left := clock.wall(clock.buffer())
		if left <= 0 {
			return nil
		}
		if err := sleep(ctx, left); err != nil {
			return err
		}
	}
}
