// Package search is the port to title search. Package embedded is the adapter
// on bleve; searchtest is the contract every adapter passes.
package search

import (
	"context"

	"github.com/flix-lab/flix/services"
)

// Doc is what is indexed of a title.
type Doc struct {
	ID        services.TitleID `json:"id"`
	Name      string           `json:"name"`
	Synopsis  string           `json:"synopsis"`
	Genres    []string         `json:"genres"`
	Countries []string         `json:"countries"` // empty: licensed everywhere
}

// Hit is one result, best first.
type Hit struct {
	ID    services.TitleID `json:"id"`
	Name  string           `json:"name"`
	Score float64          `json:"score"`
}

// Index is a client of one region's search. Safe for concurrent use.
type Index interface {
	// Put adds or replaces documents; idempotent.
	Put(ctx context.Context, docs ...Doc) error
	// Delete removes documents; idempotent.
	Delete(ctx context.Context, ids ...services.TitleID) error
	// Search finds titles by words of name, synopsis and genre, tolerant of one
	// or two wrong letters, at most limit hits. An exact name ranks first.
	Search(ctx context.Context, query string, limit int) ([]Hit, error)
	// Close releases the client's connections.
	Close() error
}
