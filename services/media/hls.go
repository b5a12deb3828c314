package media

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"
)

// audioGroup is the id of the one audio rendition group.
const audioGroup = "audio"

// PlaylistPath is the name of the HLS media playlist of a track.
func PlaylistPath(t Track) string {
	return strings.TrimSuffix(t.Path, path.Ext(t.Path)) + ".m3u8"
}

// IFramesPath is the name of the HLS playlist of a track's pictures that are
// decoded by themselves, for fast forward and previews.
func IFramesPath(t Track) string {
	return strings.TrimSuffix(t.Path, path.Ext(t.Path)) + ".iframes.m3u8"
}

// hasIFrames says whether the first picture of every segment is known.
func (t Track) hasIFrames() bool {
	return t.Kind == KindVideo && !slices.ContainsFunc(t.Segments, func(s Segment) bool { return s.Key == 0 })
}

// HLSMaster writes the title's HLS multivariant playlist (RFC 8216), lowest
// rung first. Equal indexes give equal bytes.
func (x Index) HLSMaster() []byte { return x.hls(Steering{}) }

func (x Index) hls(st Steering) []byte {
	var b bytes.Buffer
	b.WriteString("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n")
	st.writeHLS(&b)
	video, audio := x.ByKind(KindVideo), x.ByKind(KindAudio)
	var extra audioRates
	for _, p := range st.places() {
		for i, t := range audio {
			writeAudio(&b, p, t, i == 0)
			extra.peak, extra.mean = max(extra.peak, t.peakBPS()), max(extra.mean, uint64(t.Kbps)*1000)
		}
	}
	if len(video) == 0 {
		video, audio, extra = audio, nil, audioRates{}
	}
	for _, p := range st.places() {
		for _, t := range video {
			writeVariant(&b, p, t, audio, extra)
		}
		for _, t := range video {
			if t.hasIFrames() {
				writeIFrames(&b, p, t)
			}
		}
	}
	return b.Bytes()
}

// audioRates are the most that any audio track adds to a variant, bits per second.
type audioRates struct{ peak, mean uint64 }

// groupOf is the audio group of a pathway: each has its own URIs.
func groupOf(p Pathway) string {
	if p.ID == "" {
		return audioGroup
	}
	return audioGroup + "-" + p.ID
}

func writeAudio(b *bytes.Buffer, p Pathway, t Track, first bool) {
	isDefault := "NO"
	if first {
		isDefault = "YES"
	}
	fmt.Fprintf(b, "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"%s\",NAME=\"%s\",DEFAULT=%s,AUTOSELECT=YES", groupOf(p), t.ID, isDefault)
	if t.Channels > 0 {
		fmt.Fprintf(b, ",CHANNELS=\"%d\"", t.Channels)
	}
	fmt.Fprintf(b, ",URI=\"%s\"\n", p.URL+PlaylistPath(t))
}

func writeVariant(b *bytes.Buffer, p Pathway, t Track, audio []Track, extra audioRates) {
	codecs := t.Codecs
	if len(audio) > 0 {
		codecs += "," + audio[0].Codecs
	}
	fmt.Fprintf(b, "#EXT-X-STREAM-INF:BANDWIDTH=%d,AVERAGE-BANDWIDTH=%d,CODECS=\"%s\"", t.peakBPS()+extra.peak, uint64(t.Kbps)*1000+extra.mean, codecs)
	if t.Kind == KindVideo {
		fmt.Fprintf(b, ",RESOLUTION=%dx%d", t.Width, t.Height)
	}
	if t.FrameRate > 0 {
		fmt.Fprintf(b, ",FRAME-RATE=%.3f", t.FrameRate)
	}
	if len(audio) > 0 {
		fmt.Fprintf(b, ",AUDIO=\"%s\"", groupOf(p))
	}
	writePathway(b, p)
	fmt.Fprintf(b, "\n%s\n", p.URL+PlaylistPath(t))
}

func writePathway(b *bytes.Buffer, p Pathway) {
	if p.ID != "" {
		fmt.Fprintf(b, ",PATHWAY-ID=\"%s\"", p.ID)
	}
}

// writeIFrames names the playlist of a rung's first pictures (RFC 8216, 4.3.4.3).
func writeIFrames(b *bytes.Buffer, p Pathway, t Track) {
	var peak, size, ms uint64
	for _, s := range t.Segments {
		if s.DurationMS > 0 {
			peak = max(peak, s.Key*8*1000/s.DurationMS)
		}
		size, ms = size+s.Key, ms+s.DurationMS
	}
	fmt.Fprintf(b, "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=%d,AVERAGE-BANDWIDTH=%d,CODECS=\"%s\",RESOLUTION=%dx%d", max(1, peak), size*8*1000/max(1, ms), t.Codecs, t.Width, t.Height)
	writePathway(b, p)
	fmt.Fprintf(b, ",URI=\"%s\"\n", p.URL+IFramesPath(t))
}

// HLSMedia writes the media playlist of one track: byte ranges of its file.
func (x Index) HLSMedia(t Track) []byte {
	return t.playlist("#EXT-X-INDEPENDENT-SEGMENTS\n", func(s Segment) uint64 { return s.Size })
}

// HLSIFrames writes the playlist of the pictures that a track's segments begin
// with: each stands for its whole segment (RFC 8216, 4.3.3.6). It is of use only
// if all of them are known.
func (x Index) HLSIFrames(t Track) []byte {
	return t.playlist("#EXT-X-I-FRAMES-ONLY\n", func(s Segment) uint64 { return s.Key })
}

// playlist lists as many bytes of each segment as taken says.
func (t Track) playlist(tag string, taken func(Segment) uint64) []byte {
	var b bytes.Buffer
	b.WriteString("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-PLAYLIST-TYPE:VOD\n" + tag)
	// The target is compared with rounded durations (RFC 8216, 4.3.3.1).
	fmt.Fprintf(&b, "#EXT-X-TARGETDURATION:%d\n#EXT-X-MEDIA-SEQUENCE:0\n", max(1, (t.maxSegmentMS()+500)/1000))
	fmt.Fprintf(&b, "#EXT-X-MAP:URI=\"%s\",BYTERANGE=\"%d@0\"\n", t.Path, t.Init.Size)
	for _, s := range t.Segments {
		fmt.Fprintf(&b, "#EXTINF:%d.%03d,\n#EXT-X-BYTERANGE:%d@%d\n%s\n", s.DurationMS/1000, s.DurationMS%1000, taken(s), s.Offset, t.Path)
	}
	b.WriteString("#EXT-X-ENDLIST\n")
	return b.Bytes()
}
