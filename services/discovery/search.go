package discovery

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/edge"
	"github.com/flix-lab/flix/services/search"
	"github.com/flix-lab/flix/services/sqldb"
)

// Bounds of a search.
const (
	defaultHits, maxHits = 10, 50
	maxQuery             = 200 // characters
)

// searchTitles answers from the index. A title whose id or name is the query
// itself comes first, whether the index knows it yet or not.
func (s *Server) searchTitles(r *http.Request, _ edge.Caller) (any, error) {
	query, limit, err := searchParams(r)
	if err != nil {
		return nil, err
	}
	ctx := r.Context()
	all, stale, catalogueErr := s.titles(ctx)
	indexed := true
	hits, err := s.search.DoFallback(ctx,
		func(ctx context.Context) ([]search.Hit, error) { return s.d.Index.Search(ctx, query, limit) },
		func(_ context.Context, cause error) ([]search.Hit, error) {
			if catalogueErr != nil {
				return nil, cause
			}
			indexed = false
			return scan(all, query, limit), nil
		})
	if err != nil {
		return nil, services.Wrap("search", err)
	}
	reply := SearchReply{Hits: make([]Hit, 0, len(hits)+1), Stale: stale || !indexed || catalogueErr != nil}
	if t, ok := s.exact(ctx, all, query); ok {
		reply.Exact = true
		reply.Hits = append(reply.Hits, hitOf(t, topScore(hits)))
	}
	for _, h := range hits {
		if reply.Exact && reply.Hits[0].ID == string(h.ID) || len(reply.Hits) == limit {
			continue
		}
		t, late, err := s.find(ctx, string(h.ID))
		switch {
		case err == nil:
			reply.Hits = append(reply.Hits, hitOf(t, h.Score))
			reply.Stale = reply.Stale || late
		case services.KindOf(err) == services.NotFound: // the index is behind the catalogue
		default:
			reply.Hits = append(reply.Hits, Hit{ID: string(h.ID), Name: h.Name, Score: h.Score})
			reply.Stale = true
		}
	}
	if !reply.Exact && len(reply.Hits) > 0 {
		reply.Exact = is(reply.Hits[0].ID, reply.Hits[0].Name, query)
	}
	return reply, nil
}

func searchParams(r *http.Request) (query string, limit int, err error) {
	query = strings.TrimSpace(r.URL.Query().Get("q"))
	if query == "" || utf8.RuneCountInString(query) > maxQuery {
		return "", 0, services.Errorf(services.Invalid, "search: q: a query of 1 to %d characters is needed", maxQuery).WithRemedy("write it like ?q=harbor")
	}
	limit = defaultHits
	if v := r.URL.Query().Get("limit"); v != "" {
		if limit, err = strconv.Atoi(v); err != nil || limit < 1 || limit > maxHits {
			return "", 0, services.Errorf(services.Invalid, "search: limit: %q is not a number from 1 to %d", v, maxHits)
		}
	}
	return query, limit, nil
}

// is says that a title's id or name is the query.
func is(id, name, query string) bool {
	return strings.EqualFold(id, query) || strings.EqualFold(name, query)
}

// exact finds the title that the query names. One word may be the id of a
// title that is newer than the catalogue's copy and the index.
func (s *Server) exact(ctx context.Context, all []sqldb.Title, query string) (sqldb.Title, bool) {
	i := slices.IndexFunc(all, func(t sqldb.Title) bool { return is(string(t.ID), t.Name, query) })
	switch {
	case i >= 0 && all[i].Live:
		return all[i], true
	case i >= 0:
		query = string(all[i].ID)
	case strings.ContainsAny(query, " \t"):
		return sqldb.Title{}, false
	}
	t, _, err := s.find(ctx, query)
	return t, err == nil
}

// scan searches the catalogue itself, for when the index is out of reach: by
// substring of name, genre and synopsis, in this order of weight.
func scan(all []sqldb.Title, query string, limit int) []search.Hit {
	q := strings.ToLower(query)
	has := func(s string) bool { return strings.Contains(strings.ToLower(s), q) }
	var hits []search.Hit
	for _, t := range all {
		score := 0.0
		switch {
		case has(t.Name):
			score = 1
		case slices.ContainsFunc(t.Genres, has):
			score = 0.5
		case has(t.Synopsis):
			score = 0.25
		default:
			continue
		}
		hits = append(hits, search.Hit{ID: t.ID, Name: t.Name, Score: score})
	}
	slices.SortStableFunc(hits, func(a, b search.Hit) int {
		switch {
		case a.Score > b.Score:
			return -1
		case a.Score < b.Score:
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return hits[:min(len(hits), limit)]
}

func topScore(hits []search.Hit) float64 {
	if len(hits) == 0 {
		return 1
	}
	return hits[0].Score
}

func hitOf(t sqldb.Title, score float64) Hit {
	return Hit{ID: string(t.ID), Name: t.Name, Score: score, Live: t.LiveAt(time.Now())}
}
