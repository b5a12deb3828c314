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
func (x Index) HLSMaster() []byte {
	var b bytes.Buffer
	b.WriteString("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n")
	audio := x.ByKind(KindAudio)
	var audioPeak, audioMean uint64
	for i, t := range audio {
		isDefault := "NO"
		if i == 0 {
			isDefault = "YES"
		}
		fmt.Fprintf(&b, "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"%s\",NAME=\"%s\",DEFAULT=%s,AUTOSELECT=YES,URI=\"%s\"\n", audioGroup, t.ID, isDefault, PlaylistPath(t))
		audioPeak, audioMean = max(audioPeak, t.peakBPS()), max(audioMean, uint64(t.Kbps)*1000)
	}
	video := x.ByKind(KindVideo)
	if len(video) == 0 {
		video, audio = audio, nil
		audioPeak, audioMean = 0, 0
	}
	for _, t := range video {
		codecs := t.Codecs
		if len(audio) > 0 {
			codecs += "," + audio[0].Codecs
		}
		fmt.Fprintf(&b, "#EXT-X-STREAM-INF:BANDWIDTH=%d,AVERAGE-BANDWIDTH=%d,CODECS=\"%s\"", t.peakBPS()+audioPeak, uint64(t.Kbps)*1000+audioMean, codecs)
		if t.Kind == KindVideo {
			fmt.Fprintf(&b, ",RESOLUTION=%dx%d", t.Width, t.Height)
		}
		if len(audio) > 0 {
			fmt.Fprintf(&b, ",AUDIO=\"%s\"", audioGroup)
		}
		fmt.Fprintf(&b, "\n%s\n", PlaylistPath(t))
	}
	return b.Bytes()
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
