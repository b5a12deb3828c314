// Package media reads and writes the container formats that titles travel in:
// CMAF (fragmented MP4) boxes and the per-title index that names every
// segment's byte range and checksum. It never encodes: that is ffmpeg's work.
package media

// Index is the file "index.json" of a title. A player reads it to know what to
// ask for and what it must get. Its own SHA-256 comes from the play API.
type Index struct {
	Title   string `json:"title"`
	Version uint64 `json:"version"`
	// DurationMS of the presentation in milliseconds.
	DurationMS uint64  `json:"duration_ms"`
	Tracks     []Track `json:"tracks"`
}

// Track is one file of a title: a video rung or an audio track. All its
// segments lie in one file, addressed by byte ranges.
type Track struct {
	ID   string `json:"id"`   // "v1" (lowest) … "vN", "a1"
	Kind string `json:"kind"` // "video" or "audio"
	Path string `json:"path"` // relative to the title, e.g. "v1.mp4"
	// Codecs as in RFC 6381, e.g. "avc1.64001f".
	Codecs string `json:"codecs"`
	Kbps   int    `json:"kbps"` // average bit rate, kbit/s
	Width  int    `json:"width,omitempty"`
	Height int    `json:"height,omitempty"`
	// FrameRate of video, the highest of any segment, frames per second; 0 is not
	// known.
	FrameRate float64 `json:"frame_rate,omitempty"`
	// Channels of audio; 0 is not known.
	Channels int    `json:"channels,omitempty"`
	Size     uint64 `json:"size"` // of the whole file, bytes
	// SSIM is a rung's mean structural similarity to the original, 0 to 1, as
	// Tools.Quality measures it; 0 is not known.
	SSIM float64 `json:"ssim,omitempty"`
	// Init is the initialisation segment (ftyp and moov).
	Init Segment `json:"init"`
	// Sidx is the segment index box between Init and the first segment, for
	// stock DASH players; its size is 0 when the file has none.
	Sidx Segment `json:"sidx,omitzero"`
	// Segments are contiguous, aligned over all video tracks, 2 s each but the last.
	Segments []Segment `json:"segments"`
}

// Segment is a byte range of a track's file.
type Segment struct {
	Offset     uint64 `json:"offset"`
	Size       uint64 `json:"size"`
	DurationMS uint64 `json:"duration_ms,omitempty"` // 0 for an init segment
	// Key is how many of the first bytes hold the picture that a video segment
	// begins with, which is decoded by itself; 0 is not known.
	Key    uint64 `json:"key,omitempty"`
	SHA256 []byte `json:"sha256"`
}
