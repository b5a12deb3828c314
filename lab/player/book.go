package player

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/flix-lab/flix/services/media"
	"github.com/flix-lab/flix/services/play"
)

// book keeps the account of a play. The play's goroutine writes; the reporting
// and the observing one read.
type book struct {
	mu sync.Mutex
	r  Report
	// dropped counts errors beyond what the report holds.
	dropped int
	// last is the appliance that bytes came from last.
	last play.Appliance
	// rung fetched last, and id of the one played last.
	rung  media.Track
	shown string
	// kbpsMS is the sum of kbit/s × ms over the video played.
	kbpsMS, videoMS float64
	// ssimMS is the sum of SSIM × ms over what of it has one, knownMS its length.
	ssimMS, knownMS float64
	clock           playout
	// length of the title; origin is where in it the clock's zero lies, and
	// watched is what was played before the last jump.
	length, origin, watched time.Duration
	// sought is when the last jump was made, zero when it is over; delays is
	// how long the jumps took together.
	sought time.Time
	delays time.Duration
	// gauge is told what has happened since told; it may be nil.
	gauge    Gauge
	told     playout
	reported uint64 // bytes told to the play API
}

// advance moves the clock to now and tells the gauge what passed. The caller
// holds the lock.
func (b *book) advance(now time.Time) {
	b.clock.advance(now)
	if b.gauge == nil {
		return
	}
	c, t := &b.clock, &b.told
	if c.playing != t.playing || c.stalled != t.stalled || c.rebuffers != t.rebuffers {
		b.gauge.Passed(c.playing-t.playing, c.stalled-t.stalled, c.rebuffers-t.rebuffers)
		b.told = b.clock
	}
}

func (b *book) with(f func(r *Report)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.r)
}

// note books an error.
func (b *book) note(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.r.Errors) >= maxErrors {
		b.dropped++
		return
	}
	b.r.Errors = append(b.r.Errors, err.Error())
}

// begins books where in a title of some length playback begins.
func (b *book) begins(at, length time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.r.StartPositionS, b.length, b.origin = at.Seconds(), length, at
}

// seek books a jump to a position: the buffer is gone, and playback stands
// until something is there.
func (b *book) seek(to time.Duration, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(now)
	b.watched += b.clock.pos
	b.origin, b.sought = to, now
	b.clock.pos, b.clock.end, b.clock.started, b.clock.dry, b.clock.complete = 0, 0, false, false, false
	b.r.Seeks++
}

// shows books that there is a picture: for the first time, or after a jump.
func (b *book) shows(asked, now time.Time, checked bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sought.IsZero() {
		b.r.PlayDelayMS, b.r.ChecksumOK = millis(now.Sub(asked)), checked
		if b.gauge != nil {
			b.gauge.Shown(now.Sub(asked))
		}
		return
	}
	b.delays += now.Sub(b.sought)
	b.sought = time.Time{}
	b.r.SeekDelayMS = millis(b.delays) / float64(b.r.Seeks)
}

// runs books that so much media plays from now on without a stop.
func (b *book) runs(d time.Duration, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clock.add(d, now)
	b.clock.complete = true
}

// seen is how much media was watched.
func (b *book) seen(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(now)
	return b.watched + b.clock.pos
}

func (b *book) reasked() { b.with(func(r *Report) { r.Reasks++ }) }

func (b *book) licensed(until time.Time) { b.with(func(r *Report) { r.LicenseExpires = until }) }

// served books bytes from an appliance.
func (b *book) served(a play.Appliance, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last.Name != "" && b.last.Name != a.Name {
		b.r.ApplianceSwitches++
	}
	b.last = a
	b.r.Bytes += uint64(n)
	if b.gauge != nil {
		b.gauge.Received(n)
	}
	i := slices.IndexFunc(b.r.Appliances, func(s Served) bool { return s.Name == a.Name })
	if i < 0 {
		i = len(b.r.Appliances)
		b.r.Appliances = append(b.r.Appliances, Served{Name: a.Name, Site: a.Site, Kind: a.Kind})
	}
	b.r.Appliances[i].Bytes += uint64(n)
}

// candidates books a probe, in steering's order, and where playback began.
func (b *book) candidates(offered []*source, chosen *source) {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := len(b.r.Candidates) == 0
	for _, s := range offered {
		c := Candidate{Name: s.Name, Site: s.Site, Kind: s.Kind, TLSMS: millis(s.handshake)}
		if s.connect != unknown {
			c.ConnectMS = millis(s.connect)
		}
		if s.probeErr != nil {
			c.Error = s.probeErr.Error()
		}
		c.Chosen = first && s == chosen
		if len(b.r.Candidates) < maxErrors {
			b.r.Candidates = append(b.r.Candidates, c)
		}
	}
}

// buffered books a video segment of a rung, and audio fetched with it, and
// moves the clock on.
func (b *book) buffered(rung media.Track, d time.Duration, audioSegments int, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rung = rung
	b.r.Segments += 1 + audioSegments
	b.clock.add(d, now)
}

// played books a segment that was played, or has begun to.
func (b *book) played(rung media.Track, d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shown != "" && b.shown != rung.ID {
		b.r.Switches++
	}
	b.shown = rung.ID
	b.kbpsMS += float64(rung.Kbps) * millis(d)
	b.videoMS += millis(d)
	if rung.SSIM > 0 {
		b.ssimMS += rung.SSIM * millis(d)
		b.knownMS += millis(d)
	}
	i := slices.IndexFunc(b.r.Rungs, func(p PlayedRung) bool { return p.ID == rung.ID })
	if i < 0 {
		i = len(b.r.Rungs)
		b.r.Rungs = append(b.r.Rungs, PlayedRung{ID: rung.ID, Kbps: rung.Kbps, Height: rung.Height, SSIM: rung.SSIM})
	}
	b.r.Rungs[i].Segments++
}

// abandoned books a transfer that was given up, or came too late, after some
// bytes.
func (b *book) abandoned(bytes int) {
	b.with(func(r *Report) { r.Abandoned++; r.WastedBytes += uint64(bytes) })
}

// replaced books a better segment in the place of one of some bytes.
func (b *book) replaced(bytes int) {
	b.with(func(r *Report) { r.Replaced++; r.WastedBytes += uint64(bytes) })
}

// at returns a copy of the clock as it stands now.
func (b *book) at(now time.Time) playout {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(now)
	return b.clock
}

// trim says that nothing more will be buffered, and that playback ends at a
// position, somewhere in the last segment.
func (b *book) trim(end time.Duration, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(now)
	b.clock.complete = true
	b.clock.end = max(min(b.clock.end, end), b.clock.pos)
}

// tell fills a report to the play API with what happened since the last one.
func (b *book) tell(kind string, now time.Time) play.ReportRequest {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(now)
	in := play.ReportRequest{
		Kind: kind, PositionS: (b.origin + b.clock.pos).Seconds(), Appliance: b.last.Name,
		Bytes: b.r.Bytes - b.reported, Rung: b.rung.ID, RebufferS: b.clock.stalled.Seconds(),
	}
	b.reported = b.r.Bytes
	return in
}

// untold gives back the bytes of a report that did not arrive, for the next
// one; what else a report says is the state as of then.
func (b *book) untold(in play.ReportRequest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reported -= in.Bytes
}

// progress is a snapshot for a live line.
func (b *book) progress(title string, kbps float64, now time.Time) Progress {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(now)
	return Progress{
		Title: title, State: b.clock.state(), PositionS: (b.origin + b.clock.pos).Seconds(), DurationS: b.length.Seconds(),
		BufferS: b.clock.buffer().Seconds(), Rung: b.rung.ID, Kbps: b.rung.Kbps, Height: b.rung.Height, ThroughputKbps: kbps,
		Appliance: b.last.Name, Site: b.last.Site, Kind: b.last.Kind, Region: b.r.Region, Bytes: b.r.Bytes,
		Rebuffers: b.clock.rebuffers, Switches: b.r.Switches, ApplianceSwitches: b.r.ApplianceSwitches, Errors: len(b.r.Errors) + b.dropped,
	}
}

// close returns the report of the play as it stands.
func (b *book) close(now time.Time) Report {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(now)
	r := b.r
	r.SecondsPlayed = (b.watched + b.clock.pos).Seconds()
	r.PlayingS = b.clock.playing.Seconds()
	r.Rebuffers, r.RebufferS, r.RebufferRatio = b.clock.rebuffers, b.clock.stalled.Seconds(), b.clock.rebufferRatio()
	if b.videoMS > 0 {
		r.MeanKbps = b.kbpsMS / b.videoMS
		if b.knownMS == b.videoMS {
			r.MeanSSIM = b.ssimMS / b.videoMS
		}
	}
	// Nothing enters the buffer whose checksum does not match.
	r.ChecksumOK = r.ChecksumOK && r.Segments > 0
	r.Appliances = slices.Clone(r.Appliances)
	for i := range r.Appliances {
		r.Appliances[i].Share = float64(r.Appliances[i].Bytes) / float64(max(r.Bytes, 1))
	}
	slices.SortStableFunc(r.Rungs, func(x, y PlayedRung) int { return x.Kbps - y.Kbps })
	if b.dropped > 0 {
		r.Errors = append(r.Errors, fmt.Sprintf("and %d more", b.dropped))
	}
	return r
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
