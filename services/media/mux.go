package media

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"

	"github.com/flix-lab/flix/services"
)

// Track ids in a muxed file.
const (
	muxVideoID = 1
	muxAudioID = 2
)

const (
	// muxReserve is the room kept for the moov box, which is only known at the
	// end: an init segment of ffmpeg has less than 1 kB.
	muxReserve = 16 << 10
	// muxMaxPending bounds the fragments held back until every track has begun.
	muxMaxPending = 16
)

// Muxer joins the segments of a played title, one video track that may change
// its rung on the way and one audio track, into one fragmented MP4 that plays
// anywhere (ISO/IEC 14496-12). Time starts at the first segment given.
//
// Init segments may be added at any time before Close, each rung's before its
// first segment. The tallest rung describes the video: rungs carry their
// parameter sets in-band. A Muxer buffers a few segments at most. After an
// error the output is useless.
type Muxer struct {
	w      io.WriteSeeker
	video  *muxTrack
	audio  *muxTrack
	height uint32
	rungs  int
	mvhd   []byte

	pending  []muxFragment
	started  bool
	sequence uint32
	written  bool // the file's head
}

// muxTrack is one track of the output.
type muxTrack struct {
	id    uint32
	init  muxInit
	begun bool
	// first and next are the decode times of the first fragment and after the
	// newest, before rebasing; base is what rebasing subtracts.
	first, next, base uint64
}

// NewMuxer makes a muxer that writes to w from its current position, which
// must be the start of the file.
func NewMuxer(w io.WriteSeeker) *Muxer { return &Muxer{w: w} }

func muxErrorf(format string, args ...any) error {
	return services.Errorf(services.Invalid, "media: mux: "+format, args...)
}

// AddVideo takes the init segment of a video rung.
func (m *Muxer) AddVideo(init []byte) error {
	in, err := parseMuxInit(init, "vide")
	if err != nil {
		return err
	}
	m.rungs++
	if m.video == nil {
		if err := m.sameMovieClock(in); err != nil {
			return err
		}
		m.video, m.mvhd, m.height = &muxTrack{id: muxVideoID, init: in}, in.mvhd, in.height
		return nil
	}
	if in.timescale != m.video.init.timescale || in.movieTimescale != m.video.init.movieTimescale {
		return muxErrorf("a rung counts %d ticks a second, the first one %d", in.timescale, m.video.init.timescale)
	}
	if in.height > m.height {
		m.video.init, m.height = in, in.height
	}
	return nil
}

// AddAudio takes the init segment of the audio track.
func (m *Muxer) AddAudio(init []byte) error {
	if m.audio != nil {
		return muxErrorf("a second audio track")
	}
	in, err := parseMuxInit(init, "soun")
	if err != nil {
		return err
	}
	if err := m.sameMovieClock(in); err != nil {
		return err
	}
	m.audio = &muxTrack{id: muxAudioID, init: in}
	if m.mvhd == nil {
		m.mvhd = in.mvhd
	}
	return nil
}

// sameMovieClock refuses a track whose edit list counts in another clock than
// that of the tracks there are.
func (m *Muxer) sameMovieClock(in muxInit) error {
	for _, t := range m.tracks() {
		if in.movieTimescale != t.init.movieTimescale {
			return muxErrorf("the tracks' movie clocks differ: %d and %d ticks a second", in.movieTimescale, t.init.movieTimescale)
		}
	}
	return nil
}

// WriteVideo takes the next video segment: one or more moof and mdat pairs.
func (m *Muxer) WriteVideo(segment []byte) error { return m.write(m.video, segment) }

// WriteAudio takes the next audio segment. Segments of the two tracks are best
// given in turn, in presentation order.
func (m *Muxer) WriteAudio(segment []byte) error { return m.write(m.audio, segment) }

func (m *Muxer) write(t *muxTrack, segment []byte) error {
	if t == nil {
		return muxErrorf("a segment came before its init segment")
	}
	fragments, err := muxSplitFragments(t, segment)
	if err != nil {
		return err
	}
	held := len(m.pending)
	for _, f := range fragments {
		if f.decodeTime < t.next {
			return muxErrorf("track %d goes back in time, from %d to %d", t.id, t.next, f.decodeTime)
		}
		if !t.begun {
			t.begun, t.first = true, f.decodeTime
		}
		t.next = f.decodeTime + f.duration
		m.pending = append(m.pending, f)
	}
	if !m.started {
		for _, other := range m.tracks() {
			if !other.begun && len(m.pending) > muxMaxPending {
				return muxErrorf("nothing of track %d came for %d fragments of another", other.id, len(m.pending))
			}
			if !other.begun {
				for i := range m.pending[held:] { // the caller may reuse its buffer
					m.pending[held+i].mdat = bytes.Clone(m.pending[held+i].mdat)
				}
				return nil
			}
		}
	}
	return m.flush()
}

func (m *Muxer) tracks() []*muxTrack {
	var out []*muxTrack
	for _, t := range []*muxTrack{m.video, m.audio} {
		if t != nil {
			out = append(out, t)
		}
	}
	return out
}

// flush writes what is pending. The first time it fixes where time starts.
func (m *Muxer) flush() error {
	if !m.started {
		m.started = true
		m.rebase()
	}
	if !m.written {
		m.written = true
		if _, err := m.w.Write(append(muxFtyp(), muxFree(muxReserve)...)); err != nil {
			return fmt.Errorf("media: mux: %w", err)
		}
	}
	for _, f := range m.pending {
		m.sequence++
		f.rewrite(m.sequence)
		for _, b := range [][]byte{f.moof, f.mdat} {
			if _, err := m.w.Write(b); err != nil {
				return fmt.Errorf("media: mux: %w", err)
			}
		}
	}
	clear(m.pending)
	m.pending = m.pending[:0]
	return nil
}

// rebase makes the earliest fragment begin at zero and keeps the distance
// between the tracks.
func (m *Muxer) rebase() {
	var earliest *muxTrack
	for _, t := range m.tracks() {
		if t.begun && (earliest == nil || muxBefore(t, earliest)) {
			earliest = t
		}
	}
	for _, t := range m.tracks() {
		if earliest != nil && t.begun {
			t.base = min(muxScale(earliest.first, t.init.timescale, earliest.init.timescale), t.first)
		}
	}
}

func muxBefore(a, b *muxTrack) bool {
	ah, al := bits.Mul64(a.first, uint64(b.init.timescale))
	bh, bl := bits.Mul64(b.first, uint64(a.init.timescale))
	return ah < bh || (ah == bh && al < bl)
}

// muxScale is t × to ÷ from, saturated.
func muxScale(t uint64, to, from uint32) uint64 {
	hi, lo := bits.Mul64(t, uint64(to))
	if hi >= uint64(from) {
		return ^uint64(0)
	}
	q, _ := bits.Div64(hi, lo, uint64(from))
	return q
}

// Close writes the moov box into its place and leaves w at the end of the
// file. It does not close w. A muxer that got no segment fails.
func (m *Muxer) Close() error {
	if err := m.flush(); err != nil {
		return err
	}
	if m.sequence == 0 {
		return muxErrorf("no segment was written")
	}
	moov := m.moov()
	if len(moov) > muxReserve-8 {
		return muxErrorf("the moov box has %d bytes, more than the %d kept for it", len(moov), muxReserve-8)
	}
	moov = append(moov, muxFree(muxReserve-len(moov))...)
	if _, err := m.w.Seek(int64(len(muxFtyp())), io.SeekStart); err != nil {
		return fmt.Errorf("media: mux: %w", err)
	}
	if _, err := m.w.Write(moov); err != nil {
		return fmt.Errorf("media: mux: %w", err)
	}
	if _, err := m.w.Seek(0, io.SeekEnd); err != nil {
		return fmt.Errorf("media: mux: %w", err)
	}
	return nil
}

// moov joins the tracks' descriptions under their new ids.
func (m *Muxer) moov() []byte {
	var traks, trexs []byte
	var longest uint64
	for _, t := range m.tracks() {
		if !t.begun {
			continue
		}
		trak := append([]byte(nil), t.init.trak...)
		binary.BigEndian.PutUint32(trak[t.init.trackIDAt:], t.id)
		if t.id == muxVideoID && m.rungs > 1 {
			muxInBand(trak[t.init.entryAt:])
		}
		traks = append(traks, trak...)
		trex := append([]byte(nil), t.init.trex...)
		binary.BigEndian.PutUint32(trex[12:], t.id)
		trexs = append(trexs, trex...)
		longest = max(longest, muxScale(t.next-t.base, t.init.movieTimescale, t.init.timescale))
	}
	mvhd := append([]byte(nil), m.mvhd...)
	binary.BigEndian.PutUint32(mvhd[len(mvhd)-4:], muxAudioID+1) // next_track_ID
	mehd := binary.BigEndian.AppendUint64([]byte{1, 0, 0, 0}, longest)
	mvex := muxBox("mvex", muxBox("mehd", mehd), trexs)
	return muxBox("moov", mvhd, traks, mvex)
}

// muxInBand renames an H.264 or HEVC sample entry to the name that says that
// parameter sets are in the samples too (ISO/IEC 14496-15), as they are once
// rungs change.
func muxInBand(entryType []byte) {
	switch string(entryType[:4]) {
	case "avc1":
		copy(entryType, "avc3")
	case "hvc1":
		copy(entryType, "hev1")
	}
}

// muxBox builds a box of the given contents.
func muxBox(kind string, contents ...[]byte) []byte {
	n := 8
	for _, c := range contents {
		n += len(c)
	}
	b := binary.BigEndian.AppendUint32(make([]byte, 0, n), uint32(n))
	b = append(b, kind...)
	for _, c := range contents {
		b = append(b, c...)
	}
	return b
}

// muxFree builds a free box of n bytes in all, n at least 8.
func muxFree(n int) []byte { return muxBox("free", make([]byte, n-8)) }

func muxFtyp() []byte { return muxBox("ftyp", []byte("iso6\x00\x00\x00\x00iso6mp41")) }
