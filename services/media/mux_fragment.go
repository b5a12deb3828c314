package media

import "encoding/binary"

// Flags of a tfhd and of a trun box (ISO/IEC 14496-12, 8.8.7 and 8.8.8).
const (
	muxTfhdBaseDataOffset = 0x000001
	muxTfhdDescription    = 0x000002
	muxTfhdDuration       = 0x000008
	muxTrunDataOffset     = 0x000001
	muxTrunFirstFlags     = 0x000004
	muxTrunDuration       = 0x000100
	muxTrunPerSample      = 0x000f00
)

// muxMaxTicks is more ticks than a fragment lasts; sums of a few stay in range.
const muxMaxTicks = 1 << 48

// muxFragment is one moof with its mdat. moof is the muxer's own copy, mdat
// the caller's.
type muxFragment struct {
	track      *muxTrack
	moof, mdat []byte
	decodeTime uint64
	duration   uint64
	// Places in moof of what the muxer rewrites.
	sequenceAt, trackIDAt, timeAt int
	longTime                      bool
}

// muxSplitFragments finds the fragments of a segment. Boxes around them (styp,
// sidx, prft) are dropped; between a moof and its mdat there must be none,
// since sample offsets count from the moof.
func muxSplitFragments(t *muxTrack, segment []byte) ([]muxFragment, error) {
	var out []muxFragment
	open := false
	err := muxWalk(segment, func(kind string, whole []byte, _ int) error {
		if open != (kind == "mdat") {
			return muxErrorf("a moof box must be followed by its mdat box, not %q", kind)
		}
		switch kind {
		case "moof":
			f, err := muxParseFragment(t, append([]byte(nil), whole...))
			if err != nil {
				return err
			}
			out = append(out, f)
			open = true
		case "mdat":
			out[len(out)-1].mdat = whole
			open = false
		}
		return nil
	})
	if err == nil && open {
		err = muxErrorf("a moof box without its mdat box")
	}
	if err == nil && len(out) == 0 {
		err = muxErrorf("a segment without a fragment")
	}
	return out, err
}

func muxParseFragment(t *muxTrack, moof []byte) (muxFragment, error) {
	f := muxFragment{track: t, moof: moof}
	if binary.BigEndian.Uint32(moof) < 8 {
		return f, muxErrorf("a moof box with a size this muxer does not take")
	}
	mfhd, n, err := muxFind(moof, 0, "mfhd")
	if err != nil {
		return f, err
	}
	if n < 16 {
		return f, muxErrorf("a mfhd box is cut short")
	}
	f.sequenceAt = mfhd + 12
	trafs := 0
	err = muxWalk(moof[8:], func(kind string, _ []byte, _ int) error {
		if kind == "traf" {
			trafs++
		}
		return nil
	})
	if err != nil {
		return f, err
	}
	if trafs != 1 {
		return f, muxErrorf("a fragment of %d tracks, want one", trafs)
	}
	return f, f.parseTraf()
}

func (f *muxFragment) parseTraf() error {
	traf, size, err := muxFind(f.moof, 0, "traf")
	if err != nil {
		return err
	}
	def := f.track.init.sampleDuration
	tfhd, n, err := muxFind(f.moof, traf, "tfhd")
	if err != nil {
		return err
	}
	if n < 16 {
		return muxErrorf("a tfhd box is cut short")
	}
	flags := binary.BigEndian.Uint32(f.moof[tfhd+8:]) & 0xffffff
	f.trackIDAt = tfhd + 12
	if flags&muxTfhdBaseDataOffset != 0 {
		return muxErrorf("a fragment counts its offsets from the start of the file")
	}
	if flags&muxTfhdDuration != 0 {
		at := 16
		if flags&muxTfhdDescription != 0 {
			at += 4
		}
		if n < at+4 {
			return muxErrorf("a tfhd box is cut short")
		}
		def = binary.BigEndian.Uint32(f.moof[tfhd+at:])
	}
	if err := f.parseTime(traf); err != nil {
		return err
	}
	return muxWalk(f.moof[traf+8:traf+size], func(kind string, whole []byte, header int) error {
		if kind != "trun" {
			return nil
		}
		d, err := muxTrunTotal(whole[header:], def)
		if f.duration += d; err == nil && f.duration > muxMaxTicks {
			err = muxErrorf("a fragment of absurd length")
		}
		return err
	})
}

func (f *muxFragment) parseTime(traf int) error {
	tfdt, n, err := muxFind(f.moof, traf, "tfdt")
	if err != nil {
		return err
	}
	f.timeAt = tfdt + 12
	switch {
	case n >= 20 && f.moof[tfdt+8] == 1:
		f.longTime = true
		f.decodeTime = binary.BigEndian.Uint64(f.moof[f.timeAt:])
	case n >= 16 && f.moof[tfdt+8] == 0:
		f.decodeTime = uint64(binary.BigEndian.Uint32(f.moof[f.timeAt:]))
	default:
		return muxErrorf("a tfdt box is cut short")
	}
	if f.decodeTime > 1<<62 { // leaves room for sums
		return muxErrorf("a fragment at an absurd time")
	}
	return nil
}

// muxTrunTotal sums the durations of the samples of a trun box.
func muxTrunTotal(body []byte, def uint32) (uint64, error) {
	if len(body) < 8 {
		return 0, muxErrorf("a trun box is cut short")
	}
	flags := binary.BigEndian.Uint32(body) & 0xffffff
	count := uint64(binary.BigEndian.Uint32(body[4:]))
	if flags&muxTrunDuration == 0 {
		return min(count*uint64(def), muxMaxTicks+1), nil
	}
	at := 8
	for _, f := range []uint32{muxTrunDataOffset, muxTrunFirstFlags} {
		if flags&f != 0 {
			at += 4
		}
	}
	entry := 0
	for f := uint32(muxTrunDuration); f&muxTrunPerSample != 0; f <<= 1 {
		if flags&f != 0 {
			entry += 4
		}
	}
	if at > len(body) || count*uint64(entry) > uint64(len(body)-at) {
		return 0, muxErrorf("a trun box of %d samples is cut short", count)
	}
	var sum uint64 // of at most 2^32 durations below 2^32
	for range count {
		sum += uint64(binary.BigEndian.Uint32(body[at:])) // the duration comes first
		at += entry
	}
	return min(sum, muxMaxTicks+1), nil
}

// rewrite gives the fragment its number, its track and its time in the output.
func (f *muxFragment) rewrite(sequence uint32) {
	binary.BigEndian.PutUint32(f.moof[f.sequenceAt:], sequence)
	binary.BigEndian.PutUint32(f.moof[f.trackIDAt:], f.track.id)
	at := f.decodeTime - f.track.base
	if f.longTime {
		binary.BigEndian.PutUint64(f.moof[f.timeAt:], at)
	} else {
		binary.BigEndian.PutUint32(f.moof[f.timeAt:], uint32(at))
	}
}
