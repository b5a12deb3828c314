package media

import (
	"bytes"
	"fmt"
)

// Pathway is one place that the files of a title may come from: a service
// location to DASH, a pathway to HLS.
type Pathway struct {
	// ID of letters, digits, ".", "-" and "_" (draft-pantos-hls-rfc8216bis,
	// 4.4.6.2: what a pathway's name may be made of).
	ID string
	// URL is the absolute base of every file, with a slash at the end.
	URL string
}

// Steering makes manifests that name several pathways and the server that says
// in which order to use them. The zero value makes plain ones, for files that
// lie beside the manifest.
type Steering struct {
	// Pathways, the one to begin with first.
	Pathways []Pathway
	// Server is the steering server's URL; a relative one is so to the manifest's.
	Server string
	// Indexed has DASH point at the tracks' segment indexes where they have one,
	// as it does without pathways. Tools that take ranges of one file for files of
	// their own (yt-dlp) need it; players then keep to the place an index came from.
	Indexed bool
}

// SteeredDASH is DASH with a service location for each pathway (ISO/IEC
// 23009-1, 5.6; ETSI TS 103 998 for what the steering server answers).
func (x Index) SteeredDASH(s Steering) []byte { return x.dash(s) }

// SteeredHLS is HLSMaster with every rendition once for each pathway. The media
// playlists are the static ones, at the pathways themselves.
func (x Index) SteeredHLS(s Steering) []byte { return x.hls(s) }

// Only is the index without the tracks that keep refuses.
func (x Index) Only(keep func(Track) bool) Index {
	all := x.Tracks
	x.Tracks = nil
	for _, t := range all {
		if keep(t) {
			x.Tracks = append(x.Tracks, t)
		}
	}
	return x
}

// writeDASH writes the locations and the steering server.
func (s Steering) writeDASH(b *bytes.Buffer) {
	for _, p := range s.Pathways {
		fmt.Fprintf(b, " <BaseURL serviceLocation=\"%s\">%s</BaseURL>\n", escapeXML(p.ID), escapeXML(p.URL))
	}
	if len(s.Pathways) > 0 && s.Server != "" {
		fmt.Fprintf(b, " <ContentSteering defaultServiceLocation=\"%s\" queryBeforeStart=\"false\">%s</ContentSteering>\n", escapeXML(s.Pathways[0].ID), escapeXML(s.Server))
	}
}

// writeHLS writes the tag of the steering server.
func (s Steering) writeHLS(b *bytes.Buffer) {
	if len(s.Pathways) > 0 && s.Server != "" {
		fmt.Fprintf(b, "#EXT-X-CONTENT-STEERING:SERVER-URI=\"%s\",PATHWAY-ID=\"%s\"\n", s.Server, s.Pathways[0].ID)
	}
}

// places are the pathways, or the manifest's own folder.
func (s Steering) places() []Pathway {
	if len(s.Pathways) == 0 {
		return []Pathway{{}}
	}
	return s.Pathways
}
