package embedded

import (
	"context"

	"google.golang.org/grpc"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/search"
	"github.com/flix-lab/flix/services/search/searchpb"
	"github.com/flix-lab/flix/services/telemetry"
)

// client is a search.Index over the wire.
type client struct{ rpc searchpb.SearchClient }

// NewClient makes a search.Index of a connection to a region's search. The
// connection stays the caller's: Close leaves it open.
func NewClient(conn grpc.ClientConnInterface) search.Index {
	return &client{rpc: searchpb.NewSearchClient(conn)}
}

// Put implements search.Index.
func (c *client) Put(ctx context.Context, docs ...search.Doc) error {
	r := &searchpb.PutRequest{}
	for _, d := range docs {
		r.Docs = append(r.Docs, &searchpb.Doc{Id: string(d.ID), Name: d.Name, Synopsis: d.Synopsis, Genres: d.Genres, Countries: d.Countries})
	}
	_, err := c.rpc.Put(ctx, r)
	return services.Wrap("search.Put", telemetry.FromStatus(err))
}

// Delete implements search.Index.
func (c *client) Delete(ctx context.Context, ids ...services.TitleID) error {
	r := &searchpb.DeleteRequest{}
	for _, id := range ids {
		r.Ids = append(r.Ids, string(id))
	}
	_, err := c.rpc.Delete(ctx, r)
	return services.Wrap("search.Delete", telemetry.FromStatus(err))
}

// Search implements search.Index.
func (c *client) Search(ctx context.Context, query string, limit int) ([]search.Hit, error) {
	r, err := c.rpc.Query(ctx, &searchpb.QueryRequest{Query: query, Limit: uint32(max(limit, 0))})
	if err != nil {
		return nil, services.Wrap("search.Search", telemetry.FromStatus(err))
	}
	hits := make([]search.Hit, len(r.GetHits()))
	for i, h := range r.GetHits() {
		hits[i] = search.Hit{ID: services.TitleID(h.GetId()), Name: h.GetName(), Score: h.GetScore()}
	}
	return hits, nil
}

// Close implements search.Index.
func (*client) Close() error { return nil }
