package player

import (
	"context"
	"fmt"
	"slices"
	"time"

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
	var fetched time.Duration
	for i := s.first; i < len(s.rungs[0].Segments) && fetched < s.wanted; i++ {
		if err := s.room(ctx); err != nil {
			return err
		}
		d, err := s.next(ctx, i)
		if err != nil {
			return err
		}
		if i == s.first {
			s.book.with(func(r *Report) { r.PlayDelayMS = millis(s.now().Sub(s.asked)); r.ChecksumOK = true })
		}
		fetched += d
	}
	return s.playOut(ctx)
}

// loadIndex fetches the title's index and works out what to play of it.
func (s *session) loadIndex(ctx context.Context) error {
	b, _, err := s.fetch(ctx, object{name: "index", path: s.reply.IndexPath, sum: s.reply.IndexSHA256, data: s.cmcd("m", 0, 0)})
	if err != nil {
		return err
	}
	if s.index, err = media.ParseIndex(b); err != nil {
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
	s.seek()
	return nil
}

// seek finds where to begin and how much to play.
func (s *session) seek() {
	video := s.rungs[0].Segments
	for _, seg := range video {
		s.length += segmentTime(seg)
	}
	s.segment = segmentTime(video[0])
	var at time.Duration
	mark := time.Duration(s.reply.PositionS * float64(time.Second))
	if s.opts.Resume && mark < s.length-nearEnd {
		for s.first+1 < len(video) && at+segmentTime(video[s.first]) <= mark {
			at += segmentTime(video[s.first])
			s.first++
		}
	}
	if s.audio != nil {
		for s.sound+1 < len(s.audio.Segments) && s.heard+segmentTime(s.audio.Segments[s.sound]) <= at {
			s.heard += segmentTime(s.audio.Segments[s.sound])
			s.sound++
		}
	}
	s.wanted = s.length - at
	if w := time.Duration(s.opts.Seconds * float64(time.Second)); w > 0 && w < s.wanted {
		s.wanted = w
	}
	// From here on heard is relative to where playback begins.
	s.heard -= at
	s.book.begins(at, s.length)
}

func segmentTime(seg media.Segment) time.Duration {
	return time.Duration(seg.DurationMS) * time.Millisecond
}

// room waits until the buffer takes another segment.
func (s *session) room(ctx context.Context) error {
	clock := s.book.at(s.now())
	over := clock.buffer() + s.segment - s.timing.BufferAhead.D()
	if over <= 0 {
		return ctx.Err()
	}
	return sleep(ctx, clock.wall(over))
}

// next fetches the i-th video segment, in the rung that the adapter chooses,
// and the audio up to its end, and buffers both.
func (s *session) next(ctx context.Context, i int) (time.Duration, error) {
	s.rung = s.choose()
	track := s.rungs[s.rung]
	end := s.book.at(s.now()).end + segmentTime(track.Segments[i])
	sounds, err := s.fetchAudio(ctx, end)
	if err != nil {
		return 0, err
	}
	if err := s.fetchInit(ctx, track); err != nil {
		return 0, err
	}
	if err := s.fetchSegment(ctx, track, i); err != nil {
		return 0, err
	}
	d := segmentTime(track.Segments[i])
	s.book.buffered(track, d, sounds, s.now())
	return d, nil
}

func (s *session) choose() int {
	clock := s.book.at(s.now())
	sit := Situation{Current: s.rung, Buffer: clock.buffer(), Segment: s.segment, Speed: s.opts.Speed}
	for _, t := range s.rungs {
		sit.RungKbps = append(sit.RungKbps, t.Kbps)
	}
	if s.audio != nil {
		sit.AudioKbps = s.audio.Kbps
	}
	return min(max(s.adapter.Next(sit), 0), len(s.rungs)-1)
}

// fetchAudio gets audio until it reaches as far as the video will.
func (s *session) fetchAudio(ctx context.Context, end time.Duration) (n int, err error) {
	if s.audio == nil {
		return 0, nil
	}
	if err := s.fetchInit(ctx, *s.audio); err != nil {
		return 0, err
	}
	for ; s.sound < len(s.audio.Segments) && s.heard < end; n++ {
		if err := s.fetchSegment(ctx, *s.audio, s.sound); err != nil {
			return n, err
		}
		s.heard += segmentTime(s.audio.Segments[s.sound])
		s.sound++
	}
	return n, nil
}

// fetchInit gets a track's initialisation segment once.
func (s *session) fetchInit(ctx context.Context, t media.Track) error {
	if s.inits[t.ID] {
		return nil
	}
	b, _, err := s.fetch(ctx, object{name: t.ID + "/init", path: t.Path, offset: t.Init.Offset, size: t.Init.Size, sum: t.Init.SHA256, data: s.cmcd("i", 0, 0)})
	if err != nil {
		return err
	}
	s.inits[t.ID] = true
	return services.Wrap("save", s.saver.init(t.Kind, b))
}

// fetchSegment gets a segment and lets the adapter know how fast it came.
func (s *session) fetchSegment(ctx context.Context, t media.Track, i int) error {
	seg := t.Segments[i]
	kind := t.Kind[:1] // "v" or "a"
	o := object{name: fmt.Sprintf("%s/%d", t.ID, i+1), path: t.Path, offset: seg.Offset, size: seg.Size, sum: seg.SHA256, data: s.cmcd(kind, t.Kbps, segmentTime(seg))}
	b, took, err := s.fetch(ctx, o)
	if err != nil {
		return err
	}
	s.adapter.Observe(len(b), took)
	s.throughput.Store(int64(s.adapter.Kbps()))
	return services.Wrap("save", s.saver.segment(t.Kind, b))
}

// cmcd describes the player for a request.
func (s *session) cmcd(kind string, kbps int, d time.Duration) cmcd {
	clock := s.book.at(s.now())
	c := cmcd{
		session: s.id, title: s.reply.Title, object: kind, kbps: kbps, duration: d, buffer: clock.buffer(),
		startup: !clock.started || clock.dry, starved: clock.rebuffers > s.rebuffersSeen, throughput: s.adapter.Kbps(), speed: s.opts.Speed,
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
	for {
		clock := s.book.at(s.now())
		left := clock.wall(clock.buffer())
		if left <= 0 {
			return nil
		}
		if err := sleep(ctx, left); err != nil {
			return err
		}
	}
}
