package media

import (
	"fmt"
	"io"
)

// The kinds of track.
const (
	KindVideo = "video"
	KindAudio = "audio"
)

// TrackInfo is what an initialisation segment says of its only track.
type TrackInfo struct {
	ID        uint32
	Kind      string // KindVideo or KindAudio
	Timescale uint32 // units per second
	Codecs    string // RFC 6381
	// Width and Height of video, pixels.
	Width, Height int
	// Channels of audio; 0 is not known.
	Channels int
	// SampleDuration is the default in Timescale units; 0 if fragments say.
	SampleDuration uint32
	// SampleFlags are the default (ISO/IEC 14496-12, 8.8.3.1).
	SampleFlags uint32
}

// Fragment is one movie fragment ("moof" with its "mdat").
type Fragment struct {
	// Offset and Size of the bytes from the fragment's first leading box
	// ("styp", "sidx", "prft" or "emsg") to the end of its "mdat".
	Offset, Size int64
	Sequence     uint32
	// DecodeTime of the first sample and Duration of all, in track units.
	DecodeTime, Duration uint64
	Samples              int
	// Lead is how many bytes from Offset on hold the first sample, with all that
	// comes before it, if that can be decoded by itself; 0 if not, or not known.
	Lead int64
}

// TrackFile is the layout of a single-track CMAF file.
type TrackFile struct {
	Info TrackInfo
	// InitSize is the size of the initialisation segment, bytes from 0.
	InitSize int64
	// SidxSize is the size of the segment index of the whole file that follows
	// the initialisation segment; 0 if there is none.
	SidxSize  int64
	Size      int64
	Fragments []Fragment
}

// readTrack reads the layout of a CMAF track file: an initialisation segment
// (ftyp, moov) and movie fragments. It reads no media data.
func readTrack(r io.ReaderAt, size int64) (TrackFile, error) {
	f, refs, err := readLayout(r, size)
	if err != nil {
		return TrackFile{}, err
	}
	return f, refs.match(f)
}

func readLayout(r io.ReaderAt, size int64) (TrackFile, SidxRefs, error) {
	var (
		f     = TrackFile{Size: size}
		lead  = int64(-1) // start of the boxes that lead the next fragment
		whole SidxRefs
		moof  *Fragment
	)
	err := walkBoxes(r, 0, size, func(b Box) error {
		switch {
		case f.InitSize == 0 && b.Type == "moov":
			body, err := readPayload(r, b)
			if err != nil {
				return err
			}
			f.InitSize = b.End()
			f.Info, err = parseMoov(body)
			return err
		case f.InitSize == 0:
			if b.Type == "moof" || b.Type == "mdat" {
				return badFormat(b.Offset, "box %q before the initialisation segment", b.Type)
			}
			return nil
		}
		if lead < 0 {
			lead = b.Offset
		}
		switch b.Type {
		case "sidx":
			if b.Offset != f.InitSize {
				return nil // of one fragment
			}
			body, err := readPayload(r, b)
			if err != nil {
				return err
			}
			refs, err := parseSidx(body)
			if err != nil {
				return err
			}
			if refs.covers(size - b.End()) {
				f.SidxSize, lead, whole = b.Size, -1, refs
			}
		case "moof":
			if moof != nil {
				return badFormat(b.Offset, "a fragment without media data precedes")
			}
			body, err := readPayload(r, b)
			if err != nil {
				return err
			}
			fr, err := parseMoof(body, f.Info)
			if fr.Lead > 0 {
				fr.Lead += b.Offset - lead
			}
			moof = &fr
			return err
		case "mdat":
			if moof == nil {
				return badFormat(b.Offset, "media data outside a fragment")
			}
			moof.Offset, moof.Size = lead, b.End()-lead
			if moof.Lead > moof.Size {
				return badFormat(b.Offset, "a sample ends %d bytes behind its media data", moof.Lead-moof.Size)
			}
			f.Fragments = append(f.Fragments, *moof)
			moof, lead = nil, -1
		case "moov":
			return badFormat(b.Offset, "a second initialisation segment")
		}
		return nil
	})
	if err == nil {
		err = f.complete(moof != nil)
	}
	if err != nil {
		return TrackFile{}, whole, err
	}
	return f, whole, nil
}

// complete says what a file that was read to its end lacks; pending is a fragment
// that waits for its media data.
func (f TrackFile) complete(pending bool) error {
	switch {
	case f.InitSize == 0:
		return badFormat(0, "no initialisation segment")
	case pending:
		return badFormat(f.Size, "the last fragment has no media data")
	case len(f.Fragments) == 0:
		return badFormat(f.InitSize, "no fragments")
	}
	return nil
}

// Samples is the number of samples of the file.
func (f TrackFile) Samples() int {
	n := 0
	for _, fr := range f.Fragments {
		n += fr.Samples
	}
	return n
}

// parseMoov reads the payload of a "moov" box with exactly one track.
func parseMoov(body []byte) (TrackInfo, error) {
	var (
		t      TrackInfo
		tracks int
	)
	err := (&payload{b: body}).children(func(kind string, p *payload) error {
		switch kind {
		case "trak":
			tracks++
			return t.readTrak(p)
		case "mvex":
			return p.children(func(kind string, p *payload) error {
				if kind == "trex" {
					p.full()
					p.skip(8) // track id, sample description
					t.SampleDuration = p.u32()
					p.skip(4) // size
					t.SampleFlags = p.u32()
					return p.check(kind)
				}
				return nil
			})
		}
		return nil
	})
	switch {
	case err != nil:
		return TrackInfo{}, fmt.Errorf("moov: %w", err)
	case tracks != 1:
		return TrackInfo{}, badFormat(0, "moov: %d tracks where one is expected", tracks)
	case t.Timescale == 0:
		return TrackInfo{}, badFormat(0, "moov: the track has no timescale")
	case t.Codecs == "":
		return TrackInfo{}, badFormat(0, "moov: the track is neither AVC video nor AAC audio")
	}
	return t, nil
}

func (p *payload) check(kind string) error {
	if p.short {
		return badFormat(int64(len(p.b)), "box %q is cut off", kind)
	}
	return nil
}

func (t *TrackInfo) readTrak(p *payload) error {
	return p.children(func(kind string, p *payload) error {
		switch kind {
		case "trak", "mdia", "minf", "stbl":
			if kind == "trak" {
				return badFormat(0, "a track inside a track")
			}
			return t.readTrak(p)
		case "tkhd":
			return t.readHeader(p)
		case "mdhd":
			v, _ := p.full()
			p.skip(8 + 8*int(min(v, 1)))
			t.Timescale = p.u32()
			return p.check(kind)
		case "stsd":
			p.full()
			p.skip(4)
			return p.children(t.readSampleEntry)
		}
		return nil
	})
}

func (t *TrackInfo) readHeader(p *payload) error {
	v, _ := p.full()
	wide := 4 * int(min(v, 1))
	p.skip(8 + 2*wide) // creation, modification
	t.ID = p.u32()
	p.skip(4 + 4 + wide + 8 + 8 + 36) // reserved, duration, reserved, layer…volume, matrix
	t.Width, t.Height = int(p.u32()>>16), int(p.u32()>>16)
	return p.check("tkhd")
}

func (t *TrackInfo) readSampleEntry(kind string, p *payload) error {
	switch kind {
	case "avc1", "avc3":
		t.Kind = KindVideo
		p.skip(24)
		t.Width, t.Height = int(p.u16()), int(p.u16())
		p.skip(50)
		if err := p.check(kind); err != nil {
			return err
		}
		return p.children(func(child string, p *payload) error {
			if child != "avcC" {
				return nil
			}
			p.u8() // configuration version
			profile := p.take(3)
			if err := p.check(child); err != nil {
				return err
			}
			t.Codecs = fmt.Sprintf("%s.%02x%02x%02x", kind, profile[0], profile[1], profile[2])
			return nil
		})
	case "mp4a":
		t.Kind, t.Width, t.Height = KindAudio, 0, 0
		p.skip(28)
		if err := p.check(kind); err != nil {
			return err
		}
		return p.children(func(child string, p *payload) error {
			if child != "esds" {
				return nil
			}
			object, audio, channels, err := readESDS(p)
			t.Codecs, t.Channels = fmt.Sprintf("mp4a.%02x.%d", object, audio), channels
			return err
		})
	}
	return nil
}

// Tags of MPEG-4 descriptors (ISO/IEC 14496-1, 7.2.2).
const (
	tagES            = 3
	tagDecoderConfig = 4
	tagDecoderInfo   = 5
)

// readESDS returns the object type indication, the audio object type and the
// number of channels of an elementary stream descriptor. A sample entry says two
// channels whatever there are (ISO/IEC 14496-14, 5.6.1).
func readESDS(p *payload) (object, audio uint8, channels int, err error) {
	p.full()
	es := p.descriptor(tagES)
	es.skip(2)
	flags := es.u8()
	if flags&0x80 != 0 {
		es.skip(2)
	}
	if flags&0x40 != 0 {
		es.skip(int(es.u8()))
	}
	if flags&0x20 != 0 {
		es.skip(2)
	}
	config := es.descriptor(tagDecoderConfig)
	object = config.u8()
	config.skip(12)
	info := config.descriptor(tagDecoderInfo)
	first := info.u8()
	audio = first >> 3
	if audio == 31 { // escape: 6 more bits
		audio = 32 + (first&7)<<3 + info.u8()>>5
	} else {
		channels = channelsOf(first, *info)
	}
	if p.short || es.short || config.short || info.short {
		return 0, 0, 0, badFormat(0, "box \"esds\" is cut off or lacks a descriptor")
	}
	return object, audio, channels, nil
}

// channelsOf is the number of channels in an AudioSpecificConfig of which the
// first byte was read (ISO/IEC 14496-3, 1.6.2.1 and table 1.19); 0 if it does not
// say.
func channelsOf(first uint8, info payload) int {
	second := info.u8()
	configuration := second >> 3 & 0xf
	switch {
	case info.short, first&7<<1|second>>7 == 0xf: // a frequency that is written out
		return 0
	case configuration < 7:
		return int(configuration)
	case configuration == 7:
		return 8
	}
	return 0
}

func (p *payload) descriptor(tag uint8) *payload {
	if p.u8() != tag {
		p.short = true
		return &payload{short: true}
	}
	n := 0
	for range 4 {
		b := p.u8()
		n = n<<7 | int(b&0x7f)
		if b&0x80 == 0 {
			break
		}
	}
	d := &payload{b: p.take(n)}
	d.short = p.short
	return d
}
