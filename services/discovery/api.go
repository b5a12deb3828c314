// Package discovery is the API for finding something to watch: rows, search,
// titles.
package discovery

// Paths of the discovery API behind the gateway. All need a member token.
const (
	PathRows   = "/discovery/rows"   // GET: RowsReply
	PathSearch = "/discovery/search" // GET ?q=…&limit=…: SearchReply
	PathTitles = "/discovery/titles" // GET: TitlesReply; GET /discovery/titles/{id}: Title
)

// Title is a title as a client sees it.
type Title struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	Synopsis  string   `json:"synopsis"`
	Genres    []string `json:"genres"`
	Poster    string   `json:"poster,omitempty"`
	DurationS float64  `json:"duration_s"`
	Rungs     []Rung   `json:"rungs"`
	Countries []string `json:"countries"`
	Live      bool     `json:"live"`
	Year      int      `json:"year,omitempty"`
}

// Rung is one video quality.
type Rung struct {
	ID     string `json:"id"`
	Kbps   int    `json:"kbps"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
}

// TitlesReply lists the catalogue.
type TitlesReply struct {
	Titles []Title `json:"titles"`
	// Stale says that the answer came from a cache because a store was late.
	Stale bool `json:"stale,omitempty"`
}

// SearchReply is best first. Exact says that the first hit's name or id is the
// query itself.
type SearchReply struct {
	Hits  []Hit `json:"hits"`
	Exact bool  `json:"exact"`
	Stale bool  `json:"stale,omitempty"`
}

// Hit is one search result.
type Hit struct {
	ID    string  `json:"id"`
	Name  string  `json:"name"`
	Score float64 `json:"score"`
	Live  bool    `json:"live"`
}

// Row is one row of the home page.
type Row struct {
	Name   string  `json:"name"`
	Titles []Title `json:"titles"`
}

// RowsReply is the home page.
type RowsReply struct {
	Rows  []Row `json:"rows"`
	Stale bool  `json:"stale,omitempty"`
}
