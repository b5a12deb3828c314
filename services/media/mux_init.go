package media

import "encoding/binary"

// muxInit is what the muxer needs of an init segment. The byte slices point
// into it.
type muxInit struct {
	mvhd, trak, trex []byte
	// trackIDAt and entryAt are the places in trak of the track id and of the
	// type of its sample entry.
	trackIDAt, entryAt int
	// timescale of the track and of the movie, ticks per second.
	timescale, movieTimescale uint32
	height                    uint32
	// sampleDuration is the default of trex.
	sampleDuration uint32
}

// muxWalk calls visit for each box in b; whole is the box with its header of
// header bytes. It fails when a box does not fit.
func muxWalk(b []byte, visit func(kind string, whole []byte, header int) error) error {
	for len(b) > 0 {
		if len(b) < 8 {
			return muxErrorf("%d bytes are too few for a box", len(b))
		}
		size, header := uint64(binary.BigEndian.Uint32(b)), 8
		switch size {
		case 0: // to the end of the file
			size = uint64(len(b))
		case 1:
			if len(b) < 16 {
				return muxErrorf("a box with a long size is cut short")
			}
			size, header = binary.BigEndian.Uint64(b[8:]), 16
		}
		if size < uint64(header) || size > uint64(len(b)) {
			return muxErrorf("box %q says it has %d bytes, %d are there", b[4:8], size, len(b))
		}
		if err := visit(string(b[4:8]), b[:size:size], header); err != nil {
			return err
		}
		b = b[size:]
	}
	return nil
}

// parseMuxInit reads an init segment with one track of a handler type.
func parseMuxInit(b []byte, handler string) (muxInit, error) {
	var in muxInit
	traks := 0
	err := muxWalk(b, func(kind string, whole []byte, header int) error {
		if kind != "moov" {
			return nil
		}
		return muxWalk(whole[header:], func(kind string, whole []byte, header int) error {
			if header != 8 || binary.BigEndian.Uint32(whole) == 0 {
				return muxErrorf("box %q has a size this muxer does not take", kind)
			}
			switch kind {
			case "mvhd":
				in.mvhd = whole
			case "trak":
				in.trak = whole
				traks++
			case "mvex":
				return muxWalk(whole[header:], func(kind string, whole []byte, _ int) error {
					if kind == "trex" {
						in.trex = whole
					}
					return nil
				})
			}
			return nil
		})
	})
	if err != nil {
		return in, err
	}
	switch {
	case traks != 1:
		return in, muxErrorf("an init segment with %d tracks, want one", traks)
	case len(in.mvhd) < 8+100:
		return in, muxErrorf("an init segment without a mvhd box")
	case len(in.trex) != 8+24:
		return in, muxErrorf("an init segment without a trex box: the track is not fragmented")
	}
	in.sampleDuration = binary.BigEndian.Uint32(in.trex[20:])
	if in.movieTimescale, err = muxTimescale(in.mvhd); err != nil {
		return in, err
	}
	return in, in.parseTrak(handler)
}

// muxTimescale reads the timescale of a mvhd or mdhd box.
func muxTimescale(box []byte) (uint32, error) {
	at := 8 + 4 + 8 // header, version and flags, two 32-bit times
	if len(box) > 8 && box[8] == 1 {
		at = 8 + 4 + 16
	}
	if len(box) < at+4 {
		return 0, muxErrorf("a %s box is cut short", box[4:8])
	}
	ts := binary.BigEndian.Uint32(box[at:])
	if ts == 0 {
		return 0, muxErrorf("a %s box counts no ticks a second", box[4:8])
	}
	return ts, nil
}

// parseTrak finds the parts of the trak box by following the one path that
// leads to each.
func (in *muxInit) parseTrak(handler string) error {
	tkhd, _, err := muxFind(in.trak, 0, "tkhd")
	if err != nil {
		return err
	}
	body := in.trak[tkhd:]
	at, end := 8+4+8, 8+84 // of track_ID, of the box
	if len(body) > 8 && body[8] == 1 {
		at, end = 8+4+16, 8+96
	}
	if len(body) < end {
		return muxErrorf("a tkhd box is cut short")
	}
	in.trackIDAt = tkhd + at
	in.height = binary.BigEndian.Uint32(body[end-4:]) >> 16 // 16.16 fixed point
	mdhd, n, err := muxFind(in.trak, 0, "mdia", "mdhd")
	if err != nil {
		return err
	}
	if in.timescale, err = muxTimescale(in.trak[mdhd : mdhd+n]); err != nil {
		return err
	}
	hdlr, n, err := muxFind(in.trak, 0, "mdia", "hdlr")
	if err != nil {
		return err
	}
	if n < 20 || string(in.trak[hdlr+16:hdlr+20]) != handler {
		return muxErrorf("the track is not of type %q", handler)
	}
	stsd, n, err := muxFind(in.trak, 0, "mdia", "minf", "stbl", "stsd")
	if err != nil {
		return err
	}
	if n < 8+8+8 || binary.BigEndian.Uint32(in.trak[stsd+12:]) != 1 {
		return muxErrorf("want one sample description")
	}
	in.entryAt = stsd + 16 + 4
	return nil
}

// muxFind returns the place and size of the first box at the end of a path of
// types below the box at the given place of b.
func muxFind(b []byte, parent int, path ...string) (at, size int, err error) {
	at, size = parent, int(binary.BigEndian.Uint32(b[parent:]))
	if size < 8 || at+size > len(b) { // a long size: nothing below it is that big
		return 0, 0, muxErrorf("box %q has a size this muxer does not take", b[parent+4:parent+8])
	}
	for _, want := range path {
		found := false
		next := at + 8
		err := muxWalk(b[at+8:at+size], func(kind string, whole []byte, header int) error {
			if kind == want && !found && header == 8 && binary.BigEndian.Uint32(whole) != 0 {
				found, at, size = true, next, len(whole)
			}
			next += len(whole)
			return nil
		})
		if err != nil {
			return 0, 0, err
		}
		if !found {
			return 0, 0, muxErrorf("an init segment without a %s box", want)
		}
	}
	return at, size, nil
}
