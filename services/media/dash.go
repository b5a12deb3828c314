package media

import (
	"bytes"
	"encoding/xml"
	"fmt"
)

// DASH writes the title's MPEG-DASH presentation (ISO/IEC 23009-1): one
// adaptation set per kind. A track with a segment index box is one self-
// contained representation that points at it; otherwise every segment is listed
// as a byte range, and so it is in a presentation that is steered. Equal indexes give equal bytes.
func (x Index) DASH() []byte { return x.dash(Steering{}) }

func (x Index) dash(st Steering) []byte {
	var b bytes.Buffer
	longest, profile := uint64(0), "urn:mpeg:dash:profile:isoff-on-demand:2011"
	for _, t := range x.Tracks {
		longest = max(longest, t.maxSegmentMS())
		if listed(st, t) {
			profile = "urn:mpeg:dash:profile:isoff-main:2011"
		}
	}
	b.WriteString(xml.Header)
	fmt.Fprintf(&b, "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" profiles=\"%s\" type=\"static\" mediaPresentationDuration=\"%s\" maxSegmentDuration=\"%s\" minBufferTime=\"PT2S\">\n",
		profile, xmlDuration(x.DurationMS), xmlDuration(longest))
	st.writeDASH(&b)
	fmt.Fprintf(&b, " <Period id=\"0\" start=\"PT0S\" duration=\"%s\">\n", xmlDuration(x.DurationMS))
	for i, kind := range []string{KindVideo, KindAudio} {
		tracks := x.ByKind(kind)
		if len(tracks) == 0 {
			continue
		}
		fmt.Fprintf(&b, "  <AdaptationSet id=\"%d\" contentType=\"%s\" mimeType=\"%s/mp4\" segmentAlignment=\"true\" startWithSAP=\"1\">\n", i, kind, kind)
		for _, t := range tracks {
			x.writeRepresentation(&b, t, listed(st, t))
		}
		b.WriteString("  </AdaptationSet>\n")
	}
	b.WriteString(" </Period>\n</MPD>\n")
	return b.Bytes()
}

// listed says whether a track's segments are listed one by one. Steered ones
// are: a player that reads a segment index keeps to the place that it came from
// (and Shaka Player 5.2 takes offsets wrongly if the order of the places changes
// while it reads the index).
func listed(st Steering, t Track) bool {
	return t.Sidx.Size == 0 || len(st.Pathways) > 0 && !st.Indexed
}

func (x Index) writeRepresentation(b *bytes.Buffer, t Track, list bool) {
	fmt.Fprintf(b, "   <Representation id=\"%s\" codecs=\"%s\" bandwidth=\"%d\"", escapeXML(t.ID), escapeXML(t.Codecs), t.peakBPS())
	if t.Kind == KindVideo {
		fmt.Fprintf(b, " width=\"%d\" height=\"%d\"", t.Width, t.Height)
	}
	fmt.Fprintf(b, ">\n    <BaseURL>%s</BaseURL>\n", escapeXML(t.Path))
	if !list {
		fmt.Fprintf(b, "    <SegmentBase indexRange=\"%d-%d\" indexRangeExact=\"true\">\n     <Initialization range=\"0-%d\"/>\n    </SegmentBase>\n   </Representation>\n",
			t.Sidx.Offset, t.Sidx.Offset+t.Sidx.Size-1, t.Init.Size-1)
		return
	}
	writeSegmentList(b, t, x.DurationMS)
	b.WriteString("   </Representation>\n")
}

// onGrid says whether segment n of a track begins about where n times SegmentMS
// is, as many of them as last for a duration: a nominal duration then says as
// much as a timeline (ISO/IEC 23009-1, 5.3.9.2 and 7.2.1: by half a segment a
// start may be off).
func (t Track) onGrid(durationMS uint64) bool {
	var at uint64
	for i, s := range t.Segments {
		grid := uint64(i) * SegmentMS
		if max(at, grid)-min(at, grid) > SegmentMS/2 {
			return false
		}
		at += s.DurationMS
	}
	return uint64(len(t.Segments)) == (durationMS+SegmentMS-1)/SegmentMS
}

// writeSegmentList lists byte ranges. Where it can it has a nominal duration and
// no timeline, which dash.js, VLC and GStreamer do not read in a list: they play
// the first seconds, or leave out the last.
func writeSegmentList(b *bytes.Buffer, t Track, durationMS uint64) {
	if t.onGrid(durationMS) {
		fmt.Fprintf(b, "    <SegmentList timescale=\"1000\" duration=\"%d\">\n     <Initialization range=\"0-%d\"/>\n", SegmentMS, t.Init.Size-1)
	} else {
		fmt.Fprintf(b, "    <SegmentList timescale=\"1000\">\n     <Initialization range=\"0-%d\"/>\n", t.Init.Size-1)
		writeTimeline(b, t)
	}
	for _, s := range t.Segments {
		fmt.Fprintf(b, "     <SegmentURL media=\"%s\" mediaRange=\"%d-%d\"/>\n", escapeXML(t.Path), s.Offset, s.Offset+s.Size-1)
	}
	b.WriteString("    </SegmentList>\n")
}

func writeTimeline(b *bytes.Buffer, t Track) {
	b.WriteString("     <SegmentTimeline>\n")
	for i := 0; i < len(t.Segments); {
		repeat := 1
		for i+repeat < len(t.Segments) && t.Segments[i+repeat].DurationMS == t.Segments[i].DurationMS {
			repeat++
		}
		b.WriteString("      <S")
		if i == 0 {
			b.WriteString(" t=\"0\"")
		}
		fmt.Fprintf(b, " d=\"%d\"", t.Segments[i].DurationMS)
		if repeat > 1 {
			fmt.Fprintf(b, " r=\"%d\"", repeat-1)
		}
		b.WriteString("/>\n")
		i += repeat
	}
	b.WriteString("     </SegmentTimeline>\n")
}

func xmlDuration(ms uint64) string {
	if ms%1000 == 0 {
		return fmt.Sprintf("PT%dS", ms/1000)
	}
	return fmt.Sprintf("PT%d.%03dS", ms/1000, ms%1000)
}

func escapeXML(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // a bytes.Buffer cannot fail
	return b.String()
}

func (t Track) maxSegmentMS() uint64 {
	var m uint64
	for _, s := range t.Segments {
		m = max(m, s.DurationMS)
	}
	return m
}

// peakBPS is the highest rate of any segment of at least half the target
// duration, bits per second: what a client must be able to receive. A short
// last segment says nothing of the rate.
func (t Track) peakBPS() uint64 {
	var peak uint64
	for _, s := range t.Segments {
		if s.DurationMS >= SegmentMS/2 {
			peak = max(peak, s.Size*8*1000/s.DurationMS)
		}
	}
	if peak == 0 {
		peak = uint64(t.Kbps) * 1000
	}
	return peak
}
