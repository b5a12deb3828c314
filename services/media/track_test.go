package media

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// box builds a box of the parts given: strings and byte slices as they are,
// numbers in the size of their type.
func box(kind string, parts ...any) []byte {
	b := append([]byte{0, 0, 0, 0}, kind...)
	for _, p := range parts {
		switch v := p.(type) {
		case string:
			b = append(b, v...)
		case []byte:
			b = append(b, v...)
		case int:
			b = binary.BigEndian.AppendUint32(b, uint32(v))
		default:
			b, _ = binary.Append(b, binary.BigEndian, v)
		}
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	return b
}

func zeros(n int) []byte { return make([]byte, n) }

// testInit is the initialisation segment of a track with 1000 units a second.
func testInit(kind string, height int) []byte {
	entry := box("avc1", zeros(24), uint16(height*16/9), uint16(height), zeros(50), box("avcC", "\x01\x64\x00\x1f"))
	if kind == KindAudio {
		esds := "\x03\x80\x80\x80\x1c\x00\x01\x00\x04\x80\x80\x80\x14\x40\x15" + string(zeros(11)) + "\x05\x80\x80\x80\x02\x11\x90"
		entry = box("mp4a", zeros(28), box("esds", 0, esds))
	}
	stsd := box("stsd", 0, 1, entry)
	return slices.Concat(box("ftyp", "cmf2", 0), box("moov",
		box("mvhd", zeros(100)),
		box("trak",
			box("tkhd", 0, 0, 0, 1, zeros(4+4+8+8+36), height*16/9<<16, height<<16),
			box("mdia", box("mdhd", 0, 0, 0, 1000, 0, 0), box("minf", box("stbl", stsd)))),
		box("mvex", box("trex", 0, 1, 1, 500, 0, 0))))
}

// testFragment has samples of the default duration, or of their own.
func testFragment(at uint64, samples int, own ...int) []byte {
	run := box("trun", 0, samples)
	if len(own) > 0 {
		run = box("trun", 0x100, len(own))
		for _, d := range own {
			run = binary.BigEndian.AppendUint32(run, uint32(d))
		}
		binary.BigEndian.PutUint32(run, uint32(len(run)))
	}
	return slices.Concat(
		box("moof", box("mfhd", 0, 1), box("traf", box("tfhd", 0x20000, 1), box("tfdt", 0x01000000, at), run)),
		box("mdat", strings.Repeat("x", 10*max(samples, len(own)))))
}

func testTrack(kind string, height int, fragments ...[]byte) []byte {
	return append(testInit(kind, height), slices.Concat(fragments...)...)
}

func TestReadTrack(t *testing.T) {
	v := testTrack(KindVideo, 180, box("styp", "msdh"), testFragment(0, 4), testFragment(2000, 0, 500, 700, 300))
	f, err := readTrack(bytes.NewReader(v), int64(len(v)))
	if err != nil {
		t.Fatal(err)
	}
	if want := (TrackInfo{ID: 1, Kind: KindVideo, Timescale: 1000, Codecs: "avc1.64001f", Width: 320, Height: 180, SampleDuration: 500}); f.Info != want {
		t.Errorf("info %+v, want %+v", f.Info, want)
	}
	if f.InitSize != int64(len(testInit(KindVideo, 180))) || len(f.Fragments) != 2 || f.Samples() != 7 {
		t.Errorf("layout %+v", f)
	}
	if a, b := f.Fragments[0], f.Fragments[1]; a.Offset != f.InitSize || a.Offset+a.Size != b.Offset || b.Offset+b.Size != f.Size || b.DecodeTime != 2000 || b.Duration != 1500 {
		t.Errorf("fragments %+v", f.Fragments)
	}
	a := testTrack(KindAudio, 0, testFragment(0, 4))
	if f, err := readTrack(bytes.NewReader(a), int64(len(a))); err != nil || f.Info.Codecs != "mp4a.40.2" || f.Info.Kind != KindAudio {
		t.Errorf("audio %+v, %v", f.Info, err)
	}
}

func TestReadTrackRefuses(t *testing.T) {
	init, frag := testInit(KindVideo, 180), testFragment(0, 4)
	moof, mdat := frag[:len(frag)-48], frag[len(frag)-48:]
	for _, c := range []struct{ name, want, file string }{
		{"nothing", "no initialisation segment", ""},
		{"no fragments", "no fragments", string(init)},
		{"fragment first", "before the initialisation segment", string(frag)},
		{"second init", "a second initialisation segment", string(init) + string(init)},
		{"data without a fragment", "media data outside a fragment", string(init) + string(mdat)},
		{"fragment without data", "the last fragment has no media data", string(init) + string(moof)},
		{"two fragments without data", "without media data precedes", string(init) + string(moof) + string(moof)},
		{"cut off", "passes the end", string(init) + string(frag[:len(frag)-1])},
		{"stray bytes", "stray bytes", string(init) + string(frag) + "abc"},
		{"box smaller than its header", "smaller than its header", string(init) + "\x00\x00\x00\x04free"},
		{"64-bit size past the end", "passes the end", string(init) + "\x00\x00\x00\x01mdat\xff\xff\xff\xff\xff\xff\xff\xff"},
		{"another track", "track 2 where 1", strings.Replace(string(init)+string(frag), "\x00\x02\x00\x00\x00\x00\x00\x01", "\x00\x02\x00\x00\x00\x00\x00\x02", 1)},
		{"no decode time", "no decode time", strings.Replace(string(init)+string(frag), "tfdt", "free", 1)},
		{"no samples", "no samples", string(init) + string(testFragment(0, 0))},
		{"too many samples", "at most", string(init) + strings.Replace(string(frag), "trun\x00\x00\x00\x00\x00\x00\x00\x04", "trun\x00\x00\x00\x00\xff\xff\xff\xff", 1)},
		{"neither AVC nor AAC", "neither AVC video nor AAC", strings.Replace(string(init), "avcC", "hvcC", 1) + string(frag)},
		{"no tracks", "0 tracks", strings.Replace(string(init), "trak", "free", 1) + string(frag)},
	} {
		_, err := readTrack(strings.NewReader(c.file), int64(len(c.file)))
		var fe *FormatError
		if !errors.As(err, &fe) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want a FormatError with %q", c.name, err, c.want)
		}
	}
}

func TestWholeFileIndexIsFoundAndMended(t *testing.T) {
	a, b := testFragment(0, 4), testFragment(2000, 3)
	sidx := func(first, second int, duration int) []byte {
		return box("sidx", 0x01000000, 1, 1000, uint64(0), uint64(0), uint16(0), uint16(2), first, duration, 1<<31, second, 1500, 1<<31)
	}
	path := filepath.Join(t.TempDir(), "v1.mp4")
	write := func(index []byte) {
		if err := os.WriteFile(path, slices.Concat(testInit(KindVideo, 180), index, a, b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func() (TrackFile, error) {
		c, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return readTrack(bytes.NewReader(c), int64(len(c)))
	}
	write(sidx(len(a), len(b), 1979)) // the first part's duration is wrong
	if _, err := read(); err == nil {
		t.Error("a wrong index was accepted")
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(mendSidx(f), f.Close()); err != nil {
		t.Fatal(err)
	}
	if got, err := read(); err != nil || got.SidxSize != 64 || got.Fragments[0].Offset != got.InitSize+64 {
		t.Errorf("mended: %+v, %v", got, err)
	}
	write(sidx(len(a), len(b)-1, 2000)) // does not reach the end: leads the first fragment
	if got, err := read(); err != nil || got.SidxSize != 0 || got.Fragments[0].Offset != got.InitSize {
		t.Errorf("partial: %+v, %v", got, err)
	}
}

// testTitle is a title of two rungs and sound; the sound's third fragment
// begins after the picture's end.
func testTitle() fstest.MapFS {
	v := func(height int) *fstest.MapFile {
		return &fstest.MapFile{Data: testTrack(KindVideo, height, testFragment(0, 4), testFragment(2000, 3))}
	}
	return fstest.MapFS{
		"v1.mp4": v(180), "v2.mp4": v(360),
		"a1.mp4": &fstest.MapFile{Data: testTrack(KindAudio, 0, testFragment(0, 0, 2005), testFragment(2005, 0, 1500), testFragment(3505, 0, 20))},
	}
}

func testIndex(t *testing.T) Index {
	t.Helper()
	x, err := BuildIndex(testTitle(), "tt-x", 3, Source{ID: "v1", Path: "v1.mp4"}, Source{ID: "v2", Path: "v2.mp4"}, Source{ID: "a1", Path: "a1.mp4"})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestBuildIndex(t *testing.T) {
	x := testIndex(t)
	if x.DurationMS != 3500 || len(x.Tracks) != 3 || x.Tracks[1].Width != 640 || x.Tracks[1].Height != 360 {
		t.Errorf("index %+v", x)
	}
	if a := x.Tracks[2]; len(a.Segments) != 2 || a.Segments[1].DurationMS != 1520 || a.DurationMS() != 3525 {
		t.Errorf("the rest of the sound did not join its last segment: %+v", a.Segments)
	}
	if err := x.CheckFiles(testTitle()); err != nil {
		t.Error(err)
	}
	b, err := x.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if back, err := ParseIndex(b); err != nil || len(back.Tracks) != 3 {
		t.Errorf("parsed back: %+v, %v", back, err)
	}
	flipped := testTitle()
	data := slices.Clone(flipped["v2.mp4"].Data)
	data[len(data)-1] ^= 1
	flipped["v2.mp4"] = &fstest.MapFile{Data: data}
	if err := x.CheckFiles(flipped); err == nil || !strings.Contains(err.Error(), "v2.mp4: part 2") {
		t.Errorf("a flipped byte: %v", err)
	}
}

func TestBuildIndexRefuses(t *testing.T) {
	gap := testTitle()
	gap["v2.mp4"] = &fstest.MapFile{Data: testTrack(KindVideo, 360, testFragment(0, 4), testFragment(2500, 3))}
	unaligned := testTitle()
	unaligned["v2.mp4"] = &fstest.MapFile{Data: testTrack(KindVideo, 360, testFragment(0, 3), testFragment(1500, 4))}
	fewer := testTitle()
	fewer["v2.mp4"] = &fstest.MapFile{Data: testTrack(KindVideo, 360, testFragment(0, 7))}
	for name, c := range map[string]struct {
		files fs.FS
		want  string
	}{
		"a gap": {gap, "fragment 2 starts at 2500 where 2000"}, "unaligned": {unaligned, "they must be aligned"},
		"fewer segments": {fewer, "they must be aligned"}, "missing file": {fstest.MapFS{}, "v1.mp4"},
	} {
		if _, err := BuildIndex(c.files, "tt-x", 3, Source{ID: "v1", Path: "v1.mp4"}, Source{ID: "v2", Path: "v2.mp4"}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

func TestValidate(t *testing.T) {
	for name, spoil := range map[string]func(x *Index){
		"no title":          func(x *Index) { x.Title = "" },
		"no duration":       func(x *Index) { x.DurationMS = 0 },
		"no tracks":         func(x *Index) { x.Tracks = nil },
		"same id":           func(x *Index) { x.Tracks[1].ID = "v1" },
		"same path":         func(x *Index) { x.Tracks[1].Path = "v1.mp4" },
		"path climbs":       func(x *Index) { x.Tracks[0].Path = "../v1.mp4" },
		"path in a folder":  func(x *Index) { x.Tracks[0].Path = "a/v1.mp4" },
		"path with a break": func(x *Index) { x.Tracks[0].Path = "v1\n.mp4" },
		"unknown kind":      func(x *Index) { x.Tracks[0].Kind = "smell" },
		"no init":           func(x *Index) { x.Tracks[0].Init.Size = 0 },
		"short checksum":    func(x *Index) { x.Tracks[0].Segments[0].SHA256 = []byte{1} },
		"hole":              func(x *Index) { x.Tracks[0].Segments[1].Offset++ },
		"past the end":      func(x *Index) { x.Tracks[0].Segments[1].Size++ },
		"huge segment":      func(x *Index) { x.Tracks[0].Segments[0].Size = 1 << 63 },
		"before the end":    func(x *Index) { x.Tracks[0].Size++ },
		"no segments":       func(x *Index) { x.Tracks[2].Segments = nil },
		"sidx elsewhere":    func(x *Index) { x.Tracks[0].Sidx = Segment{Offset: 1, Size: 1, SHA256: x.Tracks[0].Init.SHA256} },
		"rungs out of step": func(x *Index) { x.Tracks[0].Segments[0].DurationMS++ },
		"endless segment":   func(x *Index) { x.Tracks[2].Segments[0].DurationMS = 1 << 40 },
	} {
		x := testIndex(t)
		spoil(&x)
		if x.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzReadTrack(f *testing.F) {
	f.Add(testTrack(KindVideo, 180, testFragment(0, 4), testFragment(2000, 0, 500, 700)))
	f.Add(testTrack(KindAudio, 0, testFragment(0, 2)))
	f.Add(testInit(KindVideo, 90))
	f.Fuzz(func(t *testing.T, b []byte) {
		layout, err := readTrack(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		at := layout.InitSize + layout.SidxSize
		for _, fr := range layout.Fragments {
			if fr.Offset < at || fr.Size <= 0 || fr.Offset+fr.Size > int64(len(b)) || fr.Duration == 0 || fr.Samples <= 0 {
				t.Fatalf("fragment %+v of a file of %d bytes", fr, len(b))
			}
			at = fr.Offset + fr.Size
		}
		if x, err := BuildIndex(fstest.MapFS{"v1.mp4": {Data: b}}, "t", 1, Source{ID: "v1", Path: "v1.mp4"}); err == nil {
			if err := x.CheckFiles(fstest.MapFS{"v1.mp4": {Data: b}}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte(`{"title":"t","version":1,"duration_ms":2000,"tracks":[{"id":"v1","kind":"video","path":"v1.mp4"}]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := ParseIndex(b)
		if err != nil {
			return
		}
		if _, err := x.Manifests(); err != nil {
			t.Fatal(err)
		}
	})
}
