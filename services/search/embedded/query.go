package embedded

import (
	"github.com/blevesearch/bleve/v2"
	"github.com/blevesearch/bleve/v2/analysis"
	"github.com/blevesearch/bleve/v2/search/query"
)

const (
	// maxWords and maxWordBytes bound what a query may cost.
	maxWords     = 8
	maxWordBytes = 64
)

// Weights: what matches a name says more about a title than the same word in
// its synopsis, and an exact word more than the start of one or a near one.
const (
	weightExact         = 50 // the whole name
	weightExactPrefix   = 12 // the name begins with the whole query
	weightName          = 8
	weightNamePrefix    = 4
	weightNameFuzzy     = 3
	weightGenre         = 2
	weightSynopsis      = 1
	weightSynopsisFuzzy = 0.3
)

// buildQuery asks for any of the words; nil if the text holds none.
func buildQuery(analyzer analysis.Analyzer, text string) query.Query {
	var parts []query.Query
	for _, tok := range analyzer.Analyze([]byte(text)) {
		if len(tok.Term) <= maxWordBytes && len(parts) < maxWords {
			parts = append(parts, wordQuery(string(tok.Term)))
		}
	}
	if len(parts) == 0 {
		return nil
	}
	if whole := normal(text); whole != "" {
		parts = append(parts, term(fieldExact, whole, weightExact), prefix(fieldExact, whole, weightExactPrefix))
	}
	return bleve.NewDisjunctionQuery(parts...)
}

// wordQuery finds one word wherever it may be, spelt right or nearly so.
func wordQuery(word string) query.Query {
	parts := []query.Query{
		term(fieldName, word, weightName), prefix(fieldName, word, weightNamePrefix),
		term(fieldGenres, word, weightGenre), term(fieldSynopsis, word, weightSynopsis),
	}
	if n := fuzziness(word); n > 0 {
		parts = append(parts, fuzzy(fieldName, word, n, weightNameFuzzy), fuzzy(fieldGenres, word, 1, weightSynopsisFuzzy), fuzzy(fieldSynopsis, word, 1, weightSynopsisFuzzy))
	}
	return bleve.NewDisjunctionQuery(parts...)
}

// fuzziness is how many letters of a word may be wrong (added, lost, changed
// or two swapped): none of a very short one, where everything is near
// everything.
func fuzziness(word string) int {
	switch n := len([]rune(word)); {
	case n < 3:
		return 0
	case n < 6:
		return 1
	}
	return 2
}

func term(field, text string, weight float64) query.Query {
	q := bleve.NewTermQuery(text)
	q.SetField(field)
	q.SetBoost(weight)
	return q
}

func prefix(field, text string, weight float64) query.Query {
	q := bleve.NewPrefixQuery(text)
	q.SetField(field)
	q.SetBoost(weight)
	return q
}

func fuzzy(field, text string, n int, weight float64) query.Query {
	q := bleve.NewFuzzyQuery(text)
	q.SetField(field)
	q.SetFuzziness(n)
	q.SetBoost(weight)
	return q
}
