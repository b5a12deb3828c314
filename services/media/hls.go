package media

import (
	"bytes"
	"fmt"
	"path"
	"strings"
)

// audioGroup is the id of the one audio rendition group.
const audioGroup = "audio"

// PlaylistPath is the name of the HLS media playlist of a track.
func PlaylistPath(t Track) string {
	return strings.TrimSuffix(t.Path, path.Ext(t.Path)) + ".m3u8"
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
	fmt.Fprintf(b, "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"%s\",NAME=\"%s\",DEFAULT=%s,AUTOSELECT=YES,URI=\"%s\"\n", groupOf(p), t.ID, isDefault, p.URL+PlaylistPath(t))
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
	if len(audio) > 0 {
		fmt.Fprintf(b, ",AUDIO=\"%s\"", groupOf(p))
	}
	if p.ID != "" {
		fmt.Fprintf(b, ",PATHWAY-ID=\"%s\"", p.ID)
	}
	fmt.Fprintf(b, "\n%s\n", p.URL+PlaylistPath(t))
}

// HLSMedia writes the media playlist of one track: byte ranges of its file.
func (x Index) HLSMedia(t Track) []byte {
	var b bytes.Buffer
	b.WriteString("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-INDEPENDENT-SEGMENTS\n")
	// The target is compared with rounded durations (RFC 8216, 4.3.3.1).
	fmt.Fprintf(&b, "#EXT-X-TARGETDURATION:%d\n#EXT-X-MEDIA-SEQUENCE:0\n", max(1, (t.maxSegmentMS()+500)/1000))
	fmt.Fprintf(&b, "#EXT-X-MAP:URI=\"%s\",BYTERANGE=\"%d@0\"\n", t.Path, t.Init.Size)
	for _, s := range t.Segments {
		fmt.Fprintf(&b, "#EXTINF:%d.%03d,\n#EXT-X-BYTERANGE:%d@%d\n%s\n", s.DurationMS/1000, s.DurationMS%1000, s.Size, s.Offset, t.Path)
	}
	b.WriteString("#EXT-X-ENDLIST\n")
	return b.Bytes()
}
