// Package discovery is the API for finding something to watch: rows, search,
// titles.
package discovery

import (
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/edge"
)

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
	// Live says that it may be played: it is published, and its date has come.
	Live bool `json:"live"`
	// Available is the date of a title that has one.
	Available time.Time `json:"available,omitzero"`
	Year      int       `json:"year,omitempty"`
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

// Operations describes the API.
func Operations() []edge.Operation {
	o := operations()
	return []edge.Operation{o.rows, o.search, o.titles, o.title}
}

type described struct{ rows, search, titles, title edge.Operation }

func operations() described {
	ptr := func(n int) *int { return &n }
	bound := func(n float64) *float64 { return &n }
	return described{
		rows: edge.Operation{Pattern: "GET " + PathRows, ID: "getRows", Summary: "The rows of the member's home page", Reply: RowsReply{}, Member: true},
		search: edge.Operation{Pattern: "GET " + PathSearch, ID: "search", Summary: "Titles by name, genre and synopsis, best first", Reply: SearchReply{}, Member: true, Params: []edge.Param{
			{Name: "q", In: "query", Required: true, Doc: "what to look for", Schema: edge.Schema{Type: "string", MinLength: ptr(1), MaxLength: ptr(maxQuery), Pattern: `[^ \t\r\n]`}},
			{Name: "limit", In: "query", Doc: "how many hits at most; 10 if left out", Schema: edge.Schema{Type: "integer", Minimum: bound(1), Maximum: bound(maxHits)}},
		}},
		titles: edge.Operation{Pattern: "GET " + PathTitles, ID: "listTitles", Summary: "The catalogue, by name", Reply: TitlesReply{}, Member: true},
		title: edge.Operation{Pattern: "GET " + PathTitles + "/{id}", ID: "getTitle", Summary: "One title", Reply: Title{}, Member: true, Fails: []services.Kind{services.NotFound}, Params: []edge.Param{
			{Name: "id", In: "path", Required: true, Doc: "the title's id", Schema: edge.Schema{Type: "string", MinLength: ptr(1), MaxLength: ptr(128), Pattern: "^[A-Za-z0-9][A-Za-z0-9._-]*$"}},
		}},
	}
}
