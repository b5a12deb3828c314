package player

import "time"

// Report is what one play was like. Its JSON form is stable.
type Report struct {
	TitleID   string `json:"title_id"`
	SessionID string `json:"session_id"`
	// Region and Gateway that answered the play request.
	Region   string `json:"region"`
	Gateway  string `json:"gateway"`
	ClientIP string `json:"client_ip"`
	ISP      string `json:"isp"`
	// Candidates that steering offered, in its order, with what probing them
	// told; those of a later renewal follow.
	Candidates []Candidate `json:"candidates"`
	// Appliances that bytes came from, in order of first use.
	Appliances []Served `json:"appliances"`
	// PlayDelayMS is from the play request to the first segment buffered.
	PlayDelayMS float64 `json:"play_delay_ms"`
	// SecondsPlayed of media.
	SecondsPlayed float64 `json:"seconds_played"`
	// Rungs played, lowest first.
	Rungs []PlayedRung `json:"rungs"`
	// MeanKbps is the mean video bit rate played, weighted by time.
	MeanKbps float64 `json:"mean_kbps"`
	// MeanSSIM is the mean structural similarity to the original of what was
	// played, weighted by time; left out unless it is known of every rung played.
	MeanSSIM float64 `json:"mean_ssim,omitempty"`
	// Switches between rungs.
	Switches int `json:"switches"`
	// Rebuffers counts the times playback ran dry after it had started.
	Rebuffers int `json:"rebuffers"`
	// RebufferRatio is stalled time ÷ (stalled + playing time), wall clock.
	RebufferRatio float64 `json:"rebuffer_ratio"`
	// ApplianceSwitches counts changes of the appliance streamed from.
	ApplianceSwitches int `json:"appliance_switches"`
	// Bytes of media and index received and used.
	Bytes uint64 `json:"bytes"`
	// Segments received and used, video and audio.
	Segments int `json:"segments"`
	// ChecksumOK says that something was played and every byte of it matched
	// its checksum. A mismatch that another appliance made good is in Errors.
	ChecksumOK bool `json:"checksum_ok"`
	// Errors along the way, oldest first; at most maxErrors of them.
	Errors  []string `json:"errors"`
	TraceID string   `json:"trace_id"`

	// RebufferS and PlayingS are the stalled and the playing time in seconds of
	// wall clock.
	RebufferS float64 `json:"rebuffer_s"`
	PlayingS  float64 `json:"playing_s"`
	// StartPositionS is where in the title playback began.
	StartPositionS float64   `json:"start_position_s"`
	Country        string    `json:"country"`
	Device         string    `json:"device"`
	LicenseExpires time.Time `json:"license_expires"`
	// Reasks counts how often the play API was asked for other appliances.
	Reasks int `json:"reasks"`

	// ABR is the algorithm that chose the rungs.
	ABR string `json:"abr"`
	// Abandoned counts transfers given up for another rung, or too late to be
	// of use; Replaced segments that were fetched again in a better rung before
	// they played. WastedBytes were received for neither to be shown.
	Abandoned   int    `json:"abandoned"`
	Replaced    int    `json:"replaced"`
	WastedBytes uint64 `json:"wasted_bytes"`
	// Seeks counts jumps, SeekDelayMS is how long one took on average until
	// there was a picture; Left says that the viewer walked away.
	Seeks       int     `json:"seeks"`
	SeekDelayMS float64 `json:"seek_delay_ms"`
	Left        bool    `json:"left"`
}

// newReport is the report of a play that has not begun. Its lists are empty,
// not nil, so that they are lists in JSON.
func newReport() Report {
	return Report{Candidates: []Candidate{}, Appliances: []Served{}, Rungs: []PlayedRung{}, Errors: []string{}}
}

// Candidate is one appliance that steering offered.
type Candidate struct {
	Name string `json:"name"`
	Site string `json:"site"`
	Kind string `json:"kind"`
	// ConnectMS and TLSMS are the times of the TCP connect and of the TLS
	// handshake after it; 0 when there was none, or when the play was over
	// before it was done.
	ConnectMS float64 `json:"connect_ms"`
	TLSMS     float64 `json:"tls_ms"`
	// Chosen says that playback began from it.
	Chosen bool `json:"chosen"`
	// Error of the probe.
	Error string `json:"error,omitempty"`
}

// Served is an appliance that bytes came from.
type Served struct {
	Name string `json:"name"`
	Site string `json:"site"`
	// Kind is isp, exchange or origin.
	Kind  string `json:"kind"`
	Bytes uint64 `json:"bytes"`
	// Share of the play's bytes, 0 to 1.
	Share float64 `json:"share"`
}

// PlayedRung is a video quality that was played.
type PlayedRung struct {
	ID       string `json:"id"`
	Kbps     int    `json:"kbps"`
	Height   int    `json:"height"`
	Segments int    `json:"segments"`
	// SSIM is the rung's mean structural similarity to the original, 0 to 1; left
	// out when its title does not say.
	SSIM float64 `json:"ssim,omitempty"`
}

// Progress is a snapshot of a running play.
type Progress struct {
	Title string `json:"title"`
	// State is "starting", "playing", "stalled" or "ended".
	State     string  `json:"state"`
	PositionS float64 `json:"position_s"`
	DurationS float64 `json:"duration_s"`
	// BufferS is how much media lies ahead of the position.
	BufferS float64 `json:"buffer_s"`
	Rung    string  `json:"rung"`
	Kbps    int     `json:"kbps"`
	Height  int     `json:"height"`
	// ThroughputKbps is the player's estimate.
	ThroughputKbps float64 `json:"throughput_kbps"`
	// Appliance streamed from, its site and kind.
	Appliance         string `json:"appliance"`
	Site              string `json:"site"`
	Kind              string `json:"kind"`
	Region            string `json:"region"`
	Bytes             uint64 `json:"bytes"`
	Rebuffers         int    `json:"rebuffers"`
	Switches          int    `json:"switches"`
	ApplianceSwitches int    `json:"appliance_switches"`
	Errors            int    `json:"errors"`
}

// maxErrors bounds Report.Errors.
const maxErrors = 64
