package media

import (
	"encoding/xml"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestHLS(t *testing.T) {
	x := testIndex(t)
	const master = `#EXTM3U
#EXT-X-VERSION:7
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="a1",DEFAULT=YES,AUTOSELECT=YES,CHANNELS="2",URI="a1.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=1305,AVERAGE-BANDWIDTH=4000,CODECS="avc1.64001f,mp4a.40.2",RESOLUTION=320x180,FRAME-RATE=2.000,AUDIO="audio"
v1.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=1305,AVERAGE-BANDWIDTH=4000,CODECS="avc1.64001f,mp4a.40.2",RESOLUTION=640x360,FRAME-RATE=2.000,AUDIO="audio"
v2.m3u8
`
	got := string(x.HLSMaster())
	mask := func(s string) string { // rates are checked elsewhere
		var out []string
		for line := range strings.Lines(s) {
			if i := strings.Index(line, "BANDWIDTH="); i >= 0 {
				line = line[:i] + line[strings.Index(line, "CODECS="):]
			}
			out = append(out, line)
		}
		return strings.Join(out, "")
	}
	if mask(got) != mask(master) {
		t.Errorf("master:\n%s\nwant\n%s", got, master)
	}
	media := string(x.HLSMedia(x.Tracks[2]))
	for _, want := range []string{"#EXT-X-TARGETDURATION:2\n", "#EXTINF:2.005,\n#EXT-X-BYTERANGE:", "#EXTINF:1.520,\n", "#EXT-X-MAP:URI=\"a1.mp4\",BYTERANGE=\"", "#EXT-X-ENDLIST\n"} {
		if !strings.Contains(media, want) {
			t.Errorf("media playlist lacks %q:\n%s", want, media)
		}
	}
	var sum uint64
	for _, s := range x.Tracks[2].Segments {
		sum += s.Size
	}
	if sum+x.Tracks[2].Init.Size != x.Tracks[2].Size {
		t.Errorf("ranges cover %d of %d bytes", sum+x.Tracks[2].Init.Size, x.Tracks[2].Size)
	}
}

func TestDASH(t *testing.T) {
	x := testIndex(t)
	type mpd struct {
		Profiles string `xml:"profiles,attr"`
		Duration string `xml:"mediaPresentationDuration,attr"`
		Sets     []struct {
			Kind            string `xml:"contentType,attr"`
			Representations []struct {
				ID      string `xml:"id,attr"`
				BaseURL string
				Base    *struct {
					Range string `xml:"indexRange,attr"`
				} `xml:"SegmentBase"`
				List *struct {
					Duration int `xml:"duration,attr"`
					S        []struct {
						D int `xml:"d,attr"`
						R int `xml:"r,attr"`
					} `xml:"SegmentTimeline>S"`
					URLs []struct {
						Range string `xml:"mediaRange,attr"`
					} `xml:"SegmentURL"`
				} `xml:"SegmentList"`
			} `xml:"Representation"`
		} `xml:"Period>AdaptationSet"`
	}
	read := func(x Index) mpd {
		var m mpd
		if err := xml.Unmarshal(x.DASH(), &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	m := read(x)
	if m.Duration != "PT3.500S" || len(m.Sets) != 2 || len(m.Sets[0].Representations) != 2 || !strings.Contains(m.Profiles, "isoff-main") {
		t.Fatalf("presentation %+v", m)
	}
	if r := m.Sets[1].Representations[0]; r.BaseURL != "a1.mp4" || r.List == nil || len(r.List.URLs) != 2 || r.List.Duration != SegmentMS || len(r.List.S) != 0 {
		t.Errorf("audio %+v", r)
	}
	for i := range x.Tracks {
		x.Tracks[i].Sidx = Segment{Offset: x.Tracks[i].Init.Size, Size: 64}
	}
	m = read(x)
	if r := m.Sets[0].Representations[0]; !strings.Contains(m.Profiles, "isoff-on-demand") || r.Base == nil || r.List != nil || !strings.Contains(r.Base.Range, "-") {
		t.Errorf("with a segment index: %+v", r)
	}
}

func TestPackageIsDeterministic(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, testTitle()); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	sources := []Source{{ID: "v1", Path: "v1.mp4"}, {ID: "v2", Path: "v2.mp4"}, {ID: "a1", Path: "a1.mp4"}}
	var before fstest.MapFS
	for range 2 {
		x, err := Package(root, "tt-x", 3, sources...)
		if err != nil {
			t.Fatal(err)
		}
		now := fstest.MapFS{}
		for _, name := range x.Files() {
			b, err := root.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			now[name] = &fstest.MapFile{Data: b}
			if before != nil && string(before[name].Data) != string(b) {
				t.Errorf("%s differs the second time", name)
			}
		}
		before = now
	}
}

func TestLadder(t *testing.T) {
	for _, c := range []struct {
		w, h  int
		fps   float64
		sizes [][2]int
	}{
		{1920, 1080, 24, [][2]int{{480, 270}, {960, 540}, {1920, 1080}}},
		{3840, 2160, 60, [][2]int{{480, 270}, {960, 540}, {1920, 1080}}},
		{1280, 720, 25, [][2]int{{320, 180}, {640, 360}, {1280, 720}}},
		{1080, 1920, 30, [][2]int{{150, 270}, {302, 540}, {606, 1080}}},
		{320, 180, 24, [][2]int{{160, 90}, {160, 90}, {320, 180}}},
		{160, 90, 24, [][2]int{{160, 90}, {160, 90}, {160, 90}}},
		{63, 35, 24, [][2]int{{62, 34}, {62, 34}, {62, 34}}}, // even sizes only
	} {
		got := Ladder(c.w, c.h, c.fps)
		var sizes [][2]int
		for i, r := range got {
			sizes = append(sizes, [2]int{r.Width, r.Height})
			if i > 0 && r.Kbps <= got[i-1].Kbps {
				t.Errorf("%dx%d: rates do not grow: %+v", c.w, c.h, got)
			}
			if r.ID != RungID(i+1) {
				t.Errorf("rung %d is named %s", i, r.ID)
			}
		}
		if !slices.Equal(sizes, c.sizes) {
			t.Errorf("%dx%d: %v, want %v", c.w, c.h, sizes, c.sizes)
		}
		if got[0].Kbps > 150 {
			t.Errorf("%dx%d: the lowest rung has %d kbit/s", c.w, c.h, got[0].Kbps)
		}
	}
	for fps, want := range map[float64]int{23.976: 24, 29.97: 30, 59.94: 60, 25: 25, 10: 12, 120: 60} {
		if got := FrameRate(fps); got != want {
			t.Errorf("rate %v: %d, want %d", fps, got, want)
		}
	}
}
