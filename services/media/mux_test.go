package media

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// muxSample builds tiny CMAF tracks by hand: enough for the muxer, with bytes
// that say where they came from.
type muxSample struct {
	timescale, height uint32
	handler, entry    string
}

func be32(vs ...uint32) []byte {
	var b []byte
	for _, v := range vs {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

func (s muxSample) init() []byte {
	mvhd := make([]byte, 100)
	binary.BigEndian.PutUint32(mvhd[12:], 1000)
	tkhd := make([]byte, 84)
	binary.BigEndian.PutUint32(tkhd[12:], 9) // a track id to be replaced
	binary.BigEndian.PutUint32(tkhd[80:], s.height<<16)
	mdhd := be32(0, 0, 0, s.timescale, 0, 0)
	hdlr := append(be32(0, 0), s.handler...)
	stsd := append(be32(0, 1), muxBox(s.entry, make([]byte, 8))...)
	mdia := muxBox("mdia", muxBox("mdhd", mdhd), muxBox("hdlr", hdlr), muxBox("minf", muxBox("stbl", muxBox("stsd", stsd))))
	trex := be32(0, 9, 1, 100, 0, 0)
	return append(muxFtyp(), muxBox("moov", muxBox("mvhd", mvhd), muxBox("trak", muxBox("tkhd", tkhd), mdia), muxBox("mvex", muxBox("trex", trex)))...)
}

// segment has two samples of 100 ticks from a decode time on.
func (s muxSample) segment(at uint64, payload string) []byte {
	tfdt := binary.BigEndian.AppendUint64([]byte{1, 0, 0, 0}, at)
	traf := muxBox("traf", muxBox("tfhd", be32(0x020000, 9)), muxBox("tfdt", tfdt), muxBox("trun", be32(0x201, 2, 0, 5, 5)))
	moof := muxBox("moof", muxBox("mfhd", be32(0, 77)), traf)
	return bytes.Join([][]byte{muxBox("styp", []byte("cmfs")), muxBox("sidx", make([]byte, 4)), moof, muxBox("mdat", []byte(payload))}, nil)
}

var (
	muxLow   = muxSample{12800, 180, "vide", "avc1"}
	muxHigh  = muxSample{12800, 720, "vide", "avc1"}
	muxAudio = muxSample{48000, 0, "soun", "mp4a"}
)

// muxFile is a muxer on a temporary file.
func muxFile(t *testing.T) (*Muxer, *os.File) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "out.mp4"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return NewMuxer(f), f
}

func muxMust(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// muxBoxes lists the paths of all boxes.
func muxBoxes(t *testing.T, b []byte, prefix string, visit func(path string, body []byte)) {
	t.Helper()
	err := muxWalk(b, func(kind string, whole []byte, header int) error {
		visit(prefix+kind, whole[header:])
		switch kind {
		case "moov", "trak", "mdia", "minf", "stbl", "mvex", "moof", "traf":
			muxBoxes(t, whole[header:], prefix+kind+"/", visit)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestMuxRewritesTracksTimesAndNumbers(t *testing.T) {
	m, f := muxFile(t)
	muxMust(t, m.AddVideo(muxLow.init()), m.AddAudio(muxAudio.init()),
		// Begins 10 s into the title; audio 10 ms later.
		m.WriteVideo(muxLow.segment(128000, "v-low")), m.WriteAudio(muxAudio.segment(480480, "a-1")),
		m.AddVideo(muxHigh.init()), m.WriteVideo(muxHigh.segment(128200, "v-high")), m.WriteAudio(muxAudio.segment(480680, "a-2")),
		m.Close())
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	var top, tracks, times, numbers, payloads, heights []string
	muxBoxes(t, b, "", func(path string, body []byte) {
		if !strings.Contains(path, "/") {
			top = append(top, path)
		}
		u32 := func(at int) string { return string(rune('0' + binary.BigEndian.Uint32(body[at:]))) }
		switch path {
		case "moov/trak/tkhd":
			tracks = append(tracks, u32(12))
			heights = append(heights, string(rune(binary.BigEndian.Uint16(body[80:]))))
		case "moov/mvex/trex":
			tracks = append(tracks, u32(4))
		case "moof/traf/tfhd":
			tracks = append(tracks, u32(4))
		case "moof/mfhd":
			numbers = append(numbers, u32(4))
		case "moof/traf/tfdt":
			times = append(times, string(rune(binary.BigEndian.Uint64(body[4:]))))
		case "mdat":
			payloads = append(payloads, string(body))
		}
	})
	for _, tc := range []struct{ what, got, want string }{
		{"boxes", strings.Join(top, " "), "ftyp moov free moof mdat moof mdat moof mdat moof mdat"},
		{"track ids", strings.Join(tracks, ""), "12" + "12" + "1212"},
		{"numbers", strings.Join(numbers, ""), "1234"},
		{"times", strings.Join(times, ","), strings.Join([]string{string(rune(0)), string(rune(480)), string(rune(200)), string(rune(680))}, ",")},
		{"payloads", strings.Join(payloads, " "), "v-low a-1 v-high a-2"},
		{"the tallest rung", heights[0], string(rune(720))},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.what, tc.got, tc.want)
		}
	}
	if !bytes.Contains(b, []byte("avc3")) {
		t.Error("two rungs share a sample entry that says parameter sets are not in-band")
	}
}

func TestMuxHoldsBackUntilBothTracksBegin(t *testing.T) {
	m, f := muxFile(t)
	buf := muxLow.segment(1000, "v-one")
	muxMust(t, m.AddVideo(muxLow.init()), m.AddAudio(muxAudio.init()), m.WriteVideo(buf))
	clear(buf) // the caller's buffer is its own again
	muxMust(t, m.WriteAudio(muxAudio.segment(0, "a-one")), m.Close())
	b, _ := os.ReadFile(f.Name())
	if !bytes.Contains(b, []byte("v-one")) {
		t.Error("a fragment that was held back is gone")
	}
}

func TestMuxRefuses(t *testing.T) {
	init, seg := muxLow.init(), muxLow.segment(0, "x")
	other := muxLow
	other.timescale = 90000
	patched := func(b []byte, find string, at int, v byte) []byte {
		b = bytes.Clone(b)
		b[bytes.Index(b, []byte(find))+at] = v
		return b
	}
	for _, tc := range []struct {
		name, want string
		do         func(m *Muxer) error
	}{
		{"segment before init", "before its init", func(m *Muxer) error { return m.WriteVideo(seg) }},
		{"audio as video", "not of type", func(m *Muxer) error { return m.AddVideo(muxAudio.init()) }},
		{"other timescale", "90000 ticks", func(m *Muxer) error { _ = m.AddVideo(init); return m.AddVideo(other.init()) }},
		{"garbage", "box", func(m *Muxer) error { return m.AddVideo([]byte("not an mp4 file at all")) }},
		{"back in time", "back in time", func(m *Muxer) error {
			_ = m.AddVideo(init)
			_ = m.WriteVideo(muxLow.segment(500, "x"))
			return m.WriteVideo(muxLow.segment(400, "x"))
		}},
		{"file offsets", "start of the file", func(m *Muxer) error {
			_ = m.AddVideo(init)
			return m.WriteVideo(patched(seg, "tfhd", 7, 1))
		}},
		{"no fragment", "without a fragment", func(m *Muxer) error { _ = m.AddVideo(init); return m.WriteVideo(muxBox("styp")) }},
		{"cut short", "says it has", func(m *Muxer) error { _ = m.AddVideo(init); return m.WriteVideo(seg[:len(seg)-1]) }},
		{"no mdat", "without its mdat", func(m *Muxer) error {
			_ = m.AddVideo(init)
			return m.WriteVideo(seg[:bytes.Index(seg, []byte("mdat"))-4])
		}},
		{"nothing", "no segment", func(m *Muxer) error { _ = m.AddVideo(init); return m.Close() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, _ := muxFile(t)
			if err := tc.do(m); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

// memoryFile is an io.WriteSeeker for fuzzing.
type memoryFile struct {
	b  []byte
	at int64
}

func (m *memoryFile) Write(p []byte) (int, error) {
	if grow := m.at + int64(len(p)) - int64(len(m.b)); grow > 0 {
		m.b = append(m.b, make([]byte, grow)...)
	}
	m.at += int64(copy(m.b[m.at:], p))
	return len(p), nil
}

func (m *memoryFile) Seek(off int64, whence int) (int64, error) {
	if whence == io.SeekEnd {
		off += int64(len(m.b))
	}
	m.at = off
	return off, nil
}

func FuzzMux(f *testing.F) {
	f.Add(muxLow.init(), muxLow.segment(0, "payload"))
	f.Add(muxHigh.init(), muxLow.segment(1<<40, ""))
	f.Fuzz(func(t *testing.T, init, segment []byte) {
		out := &memoryFile{}
		m := NewMuxer(out)
		if m.AddVideo(init) != nil || m.WriteVideo(segment) != nil || m.Close() != nil {
			return
		}
		if err := muxWalk(out.b, func(string, []byte, int) error { return nil }); err != nil {
			t.Errorf("the output is not made of boxes: %v", err)
		}
	})
}
