package player

import "time"

// playout is the playback clock and the buffer in front of it, computed from
// what was added and when. Positions are media time, the rest wall clock. The
// methods take the time, in order.
type playout struct {
	speed float64

	pos, end time.Duration // played up to, buffered up to
	at       time.Time     // when pos was true
	started  bool
	dry      bool
	complete bool // nothing will be added any more

	rebuffers        int
	playing, stalled time.Duration
}

// add puts media behind what is buffered; the first starts the clock, and any
// ends a stall.
func (p *playout) add(d time.Duration, now time.Time) {
	p.advance(now)
	p.end += d
	p.dry = false
	if !p.started {
		p.started, p.at = true, now
	}
}

// advance moves the clock to now.
func (p *playout) advance(now time.Time) {
	if !p.started {
		return
	}
	passed := now.Sub(p.at)
	if passed <= 0 {
		return
	}
	p.at = now
	if p.dry {
		p.stalled += passed
		return
	}
	left := p.wall(p.end - p.pos)
	if passed < left {
		p.playing += passed
		p.pos += time.Duration(float64(passed) * p.speed)
		return
	}
	p.playing += left
	p.pos = p.end
	if !p.complete && passed > left {
		p.dry = true
		p.rebuffers++
		p.stalled += passed - left
	}
}

// wall is how long a stretch of media plays.
func (p *playout) wall(media time.Duration) time.Duration {
	return time.Duration(float64(media) / p.speed)
}

// buffer is the media ahead of the position.
func (p *playout) buffer() time.Duration { return p.end - p.pos }

// state names what a viewer sees.
func (p *playout) state() string {
	switch {
	case !p.started:
		return "starting"
	case p.complete && p.pos >= p.end:
		return "ended"
	case p.dry:
		return "stalled"
	}
	return "playing"
}

// rebufferRatio is stalled ÷ (stalled + playing).
func (p *playout) rebufferRatio() float64 {
	if total := p.stalled + p.playing; total > 0 {
		return float64(p.stalled) / float64(total)
	}
	return 0
}
