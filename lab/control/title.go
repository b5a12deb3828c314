package control

import (
	"time"
)

// Title is a title of the catalogue.
type Title struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	Synopsis  string   `json:"synopsis,omitempty"`
	Genres    []string `json:"genres,omitempty"`
	Year      int      `json:"year,omitempty"`
	Poster    string   `json:"poster,omitempty"`
	DurationS float64  `json:"duration_s"`
	Rungs     []Rung   `json:"rungs"`
	Countries []string `json:"countries"`
	// Live says that it may be played: it is published, its date has come, and as
	// many sites as it wants, one appliance at least, hold all of it.
	Live bool `json:"live"`
	// Available is its date, if it has one; MinSites how many sites have to hold
	// all of it, if it is more than one appliance.
	Available time.Time `json:"available,omitzero"`
	MinSites  int       `json:"min_sites,omitempty"`
	// Waiting says why it is not live.
	Waiting string `json:"waiting,omitempty"`
}

// Rung is one video quality of a title.
type Rung struct {
	ID     string `json:"id"`
	Kbps   int    `json:"kbps"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
}

// Titles is the JSON of "flix title ls" and "flix title search".
type Titles struct {
	Titles []Title `json:"titles"`
}

// AddTitleRequest starts a transcode-and-fill job. The file is read by the
// daemon, which runs as the same user on the same machine.
type AddTitleRequest struct {
	File      string   `json:"file"`
	Name      string   `json:"name"`
	ID        string   `json:"id,omitempty"`
	Synopsis  string   `json:"synopsis,omitempty"`
	Countries []string `json:"countries,omitempty"`
	// Available is the date before which nobody may play it; zero: at once.
	Available time.Time `json:"available,omitzero"`
	// MinSites is how many sites have to hold all of it before anybody may; 0:
	// one appliance will do.
	MinSites int `json:"min_sites,omitempty"`
}

// Job is a transcode-and-fill job.
type Job struct {
	ID      string    `json:"id"`
	Title   string    `json:"title_id"`
	Name    string    `json:"name"`
	State   string    `json:"state"`
	Percent float64   `json:"percent"`
	Region  string    `json:"region"`
	Error   string    `json:"error,omitempty"`
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	Steps   []Step    `json:"steps,omitempty"`
}

// AddTitleResult is the JSON of "flix title add".
type AddTitleResult struct {
	Title Title  `json:"title"`
	Job   Job    `json:"job"`
	Steps []Step `json:"steps"`
	// Appliances that hold the whole title.
	Appliances int     `json:"appliances"`
	MS         float64 `json:"ms"`
}
