package media

import (
	"encoding/binary"
	"fmt"
	"os"
)

// SidxRefs is what a segment index ("sidx", ISO/IEC 14496-12, 8.16.3) says.
type SidxRefs struct {
	Timescale uint32
	// First is the distance from the box's end to the first referenced byte.
	First uint64
	// Sizes and Durations of the referenced parts, in bytes and units of
	// Timescale.
	Sizes, Durations []uint32
}

// parseSidx reads the payload of a "sidx" box that references media only.
func parseSidx(body []byte) (SidxRefs, error) {
	p := &payload{b: body}
	v, _ := p.full()
	p.skip(4) // reference id
	s := SidxRefs{Timescale: p.u32()}
	if v == 0 {
		p.skip(4) // earliest presentation time
		s.First = uint64(p.u32())
	} else {
		p.skip(8)
		s.First = p.u64()
	}
	p.skip(2)
	for range p.u16() {
		size := p.u32()
		if size>>31 != 0 {
			return SidxRefs{}, badFormat(int64(p.at), "box \"sidx\" references another index")
		}
		s.Sizes, s.Durations = append(s.Sizes, size), append(s.Durations, p.u32())
		p.skip(4) // stream access point
		if p.short {
			break
		}
	}
	if p.short {
		return SidxRefs{}, badFormat(int64(len(body)), "box \"sidx\" is cut off")
	}
	return s, nil
}

// covers says whether the references reach exactly over n bytes.
func (s SidxRefs) covers(n int64) bool {
	sum := s.First
	for _, size := range s.Sizes {
		sum += uint64(size)
	}
	return s.First == 0 && sum == uint64(n)
}

// match checks the index of a whole file against its fragments.
func (s SidxRefs) match(f TrackFile) error {
	if f.SidxSize == 0 {
		return nil
	}
	if len(s.Sizes) != len(f.Fragments) || s.Timescale != f.Info.Timescale {
		return badFormat(f.InitSize, "box \"sidx\" lists %d parts in units of 1/%d s, the file has %d fragments in units of 1/%d s",
			len(s.Sizes), s.Timescale, len(f.Fragments), f.Info.Timescale)
	}
	for i, fr := range f.Fragments {
		if int64(s.Sizes[i]) != fr.Size || uint64(s.Durations[i]) != fr.Duration {
			return badFormat(f.InitSize, "box \"sidx\" says %d bytes and %d units of part %d, the fragment has %d and %d", s.Sizes[i], s.Durations[i], i+1, fr.Size, fr.Duration)
		}
	}
	return nil
}

// sidxHeader is the size of a version 1 "sidx" box without its references,
// and sidxRef that of a reference, bytes.
const (
	sidxHeader = 40
	sidxRef    = 12
)

// mendSidx rewrites the index of a whole file in place from its fragments:
// ffmpeg counts the encoder's delay into the first audio reference, which the
// decode times of the fragments contradict.
func mendSidx(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	layout, refs, err := readLayout(f, info.Size())
	if err != nil {
		return err
	}
	n := len(layout.Fragments)
	if layout.SidxSize != sidxHeader+sidxRef*int64(n) || len(refs.Sizes) != n {
		return fmt.Errorf("the segment index of %d bytes does not list %d fragments", layout.SidxSize, n)
	}
	b := make([]byte, 0, layout.SidxSize)
	be := binary.BigEndian
	b = be.AppendUint32(b, uint32(layout.SidxSize))
	b = append(b, "sidx\x01\x00\x00\x00"...)
	b = be.AppendUint32(b, layout.Info.ID)
	b = be.AppendUint32(b, layout.Info.Timescale)
	b = be.AppendUint64(b, layout.Fragments[0].DecodeTime)
	b = be.AppendUint64(b, 0) // no distance to the first fragment
	b = be.AppendUint32(b, uint32(n))
	for _, fr := range layout.Fragments {
		b = be.AppendUint32(b, uint32(fr.Size))
		b = be.AppendUint32(b, uint32(fr.Duration))
		b = be.AppendUint32(b, 1<<31|1<<28) // starts with an access point of type 1
	}
	_, err = f.WriteAt(b, layout.InitSize)
	return err
}
