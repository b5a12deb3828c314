package media

import "fmt"

// Flags of "tfhd" and "trun" (ISO/IEC 14496-12, 8.8.7 and 8.8.8).
const (
	tfhdBaseOffset  = 0x1
	tfhdDescription = 0x2
	tfhdDuration    = 0x8
	tfhdSize        = 0x10
	tfhdFlags       = 0x20

	trunDataOffset  = 0x1
	trunFirstFlags  = 0x4
	trunDuration    = 0x100
	trunSize        = 0x200
	trunFlags       = 0x400
	trunComposition = 0x800
)

// nonSync is the flag of a sample that is not decoded by itself (8.8.3.1).
const nonSync = 0x10000

const (
	// maxSamples bounds a run that names a count but lists no sample.
	maxSamples = 1 << 20
	// maxTime bounds decode times and durations, in track units, so that
	// their sums and their conversion to milliseconds cannot overflow.
	maxTime = 1 << 50
)

// parseMoof reads the payload of a "moof" box of the given track. Offset and
// Size of the result are not set, and Lead counts from the box.
func parseMoof(body []byte, track TrackInfo) (Fragment, error) {
	var (
		fr    Fragment
		timed bool
		trafs int
	)
	err := (&payload{b: body}).children(func(kind string, p *payload) error {
		switch kind {
		case "mfhd":
			p.full()
			fr.Sequence = p.u32()
			return p.check(kind)
		case "traf":
			trafs++
			return fr.readTraf(p, track, &timed)
		}
		return nil
	})
	switch {
	case err != nil:
		return Fragment{}, fmt.Errorf("moof: %w", err)
	case trafs != 1:
		return Fragment{}, badFormat(0, "moof: %d tracks where one is expected", trafs)
	case !timed:
		return Fragment{}, badFormat(0, "moof: no decode time (tfdt)")
	case fr.Samples == 0:
		return Fragment{}, badFormat(0, "moof: no samples")
	case fr.Duration == 0:
		return Fragment{}, badFormat(0, "moof: samples without duration")
	}
	return fr, nil
}

func (fr *Fragment) readTraf(p *payload, track TrackInfo, timed *bool) error {
	d := defaults{duration: track.SampleDuration, flags: track.SampleFlags}
	return p.children(func(kind string, p *payload) error {
		switch kind {
		case "tfhd":
			_, flags := p.full()
			if id := p.u32(); id != track.ID {
				return badFormat(0, "track %d where %d is expected", id, track.ID)
			}
			if d.elsewhere = flags&tfhdBaseOffset != 0; d.elsewhere {
				p.skip(8)
			}
			if flags&tfhdDescription != 0 {
				p.skip(4)
			}
			if flags&tfhdDuration != 0 {
				d.duration = p.u32()
			}
			if flags&tfhdSize != 0 {
				d.size = p.u32()
			}
			if flags&tfhdFlags != 0 {
				d.flags = p.u32()
			}
		case "tfdt":
			v, _ := p.full()
			if v == 0 {
				fr.DecodeTime = uint64(p.u32())
			} else {
				fr.DecodeTime = p.u64()
			}
			if fr.DecodeTime > maxTime {
				return badFormat(0, "decode time %d is out of range", fr.DecodeTime)
			}
			*timed = true
		case "trun":
			return fr.readRun(p, d)
		}
		return p.check(kind)
	})
}

// defaults are what a sample is when its run does not say.
type defaults struct {
	duration, size, flags uint32
	// elsewhere: offsets do not count from the fragment.
	elsewhere bool
}

func (fr *Fragment) readRun(p *payload, d defaults) error {
	_, flags := p.full()
	count := p.u32()
	offset := uint32(0)
	if flags&trunDataOffset != 0 {
		offset = p.u32()
	}
	if flags&trunFirstFlags != 0 {
		d.flags = p.u32()
	}
	if fr.Samples == 0 && count > 0 && offset > 0 && !d.elsewhere {
		fr.Lead = leadOf(*p, flags, offset, d)
	}
	rest := 0 // bytes of a sample's entry after its duration
	for _, f := range []uint32{trunSize, trunFlags, trunComposition} {
		if flags&f != 0 {
			rest += 4
		}
	}
	if err := p.check("trun"); err != nil {
		return err
	}
	if flags&trunDuration == 0 {
		if int64(count)*int64(rest) > int64(len(p.b)-p.at) {
			return badFormat(int64(p.at), "box \"trun\" is cut off")
		}
		if count > maxSamples {
			return badFormat(int64(p.at), "a run of %d samples; at most %d are read", count, maxSamples)
		}
		fr.Samples += int(count)
		fr.Duration += uint64(count) * uint64(d.duration)
		return fr.inRange()
	}
	for range count {
		fr.Duration += uint64(p.u32())
		p.skip(rest)
		if p.short {
			return badFormat(int64(p.at), "box \"trun\" is cut off")
		}
		fr.Samples++
	}
	return fr.inRange()
}

// leadOf is Fragment.Lead by the first entry of a run, which p is at. What is cut
// off there is seen by whoever reads on.
func leadOf(p payload, flags, offset uint32, d defaults) int64 {
	if flags&trunDuration != 0 {
		p.skip(4)
	}
	if flags&trunSize != 0 {
		d.size = p.u32()
	}
	if flags&trunFlags != 0 && flags&trunFirstFlags == 0 {
		d.flags = p.u32()
	}
	if d.size == 0 || d.flags&nonSync != 0 {
		return 0
	}
	return int64(offset) + int64(d.size)
}

func (fr *Fragment) inRange() error {
	if fr.Duration > maxTime {
		return badFormat(0, "a duration of %d is out of range", fr.Duration)
	}
	return nil
}
