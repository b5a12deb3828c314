package opensearch

import (
	"context"
	"net/http"
	"strings"
	"unicode"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/search"
)

const (
	defaultHits = 20
	maxHits     = 100
	maxQuery    = 512 // bytes
)

// Weights: what matches a name says more about a title than the same word in
// its synopsis, and an exact word more than the start of one or a near one.
//
// A word's score is its weight times less than 2.2 ln(1+titles), by BM25 as
// OpenSearch scales it, so that all words of a query together stay below 5000
// for a million titles: a title whose whole name is the query comes before all
// others, whatever their words weigh.
const (
	weightExact         = 10_000 // the whole name
	weightExactPrefix   = 12     // the name begins with the whole query
	weightName          = 8
	weightNamePrefix    = 4
	weightNameFuzzy     = 3
	weightGenre         = 2
	weightSynopsis      = 1
	weightSynopsisFuzzy = 0.3
)

// How many letters of a word may be wrong (added, lost, changed or two
// swapped): none of a very short one, where everything is near everything, one
// from three letters on, and in names two from six letters on.
const (
	fuzzyName  = "AUTO:3,6"
	fuzzyOther = "AUTO:3,65" // longer than any word of a query: never two
)

// query is the search for any of the words of a text, wherever they may be,
// spelt right or nearly so.
func query(text string, limit int) object {
	return object{
		"size": limit, "_source": []string{fieldName}, "track_total_hits": false,
		"query": object{"bool": object{"should": []object{
			{"constant_score": object{"filter": leaf("term", fieldExact, object{"value": text}), "boost": weightExact}},
			{"constant_score": object{"filter": leaf("prefix", fieldExact, object{"value": text}), "boost": weightExactPrefix}},
			match(fieldName, text, weightName, ""),
			match(fieldStarts, text, weightNamePrefix, ""),
			match(fieldGenres, text, weightGenre, ""),
			match(fieldSynopsis, text, weightSynopsis, ""),
			match(fieldName, text, weightNameFuzzy, fuzzyName),
			match(fieldGenres, text, weightSynopsisFuzzy, fuzzyOther),
			match(fieldSynopsis, text, weightSynopsisFuzzy, fuzzyOther),
		}}},
		// Equal scores come in order of id, so that two searches agree.
		"sort":         []object{{"_score": "desc"}, {fieldID: "asc"}},
		"track_scores": true,
	}
}

func match(field, text string, weight float64, fuzziness string) object {
	o := object{"query": text, "boost": weight}
	if fuzziness != "" {
		o["fuzziness"] = fuzziness
	}
	return leaf("match", field, o)
}

func leaf(kind, field string, o object) object { return object{kind: object{field: o}} }

// searchable says whether there is a letter or digit in a text. Without one it
// is no query: it would be the start of every name.
func searchable(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) })
}

// found is what is read of the answer to a search.
type found struct {
	Hits struct {
		Hits []struct {
			ID     string  `json:"_id"`
			Score  float64 `json:"_score"`
			Source struct {
				Name string `json:"name"`
			} `json:"_source"`
		} `json:"hits"`
	} `json:"hits"`
}

// find runs a search.
func (c *Client) find(ctx context.Context, text string, limit int) ([]search.Hit, error) {
	if len(text) > maxQuery {
		return nil, services.Errorf(services.Invalid, "a query of %d bytes: at most %d", len(text), maxQuery)
	}
	if !searchable(text) {
		return nil, nil
	}
	if limit <= 0 {
		limit = defaultHits
	}
	body, err := encode(query(text, min(limit, maxHits)))
	if err != nil {
		return nil, err
	}
	var f found
	// Part of an index would answer as if the rest held nothing.
	err = c.do(ctx, request{
		method: http.MethodPost, op: "search", body: body,
		path: "/" + alias + "/_search?allow_partial_search_results=false&filter_path=hits.hits._id,hits.hits._score,hits.hits._source",
	}, &f)
	if missing(err) {
		return nil, nil // nothing was ever put
	}
	if err != nil {
		return nil, err
	}
	hits := make([]search.Hit, len(f.Hits.Hits))
	for i, h := range f.Hits.Hits {
		hits[i] = search.Hit{ID: services.TitleID(h.ID), Name: h.Source.Name, Score: h.Score}
	}
	return hits, nil
}
