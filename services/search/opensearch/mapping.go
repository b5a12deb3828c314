package opensearch

import (
	"context"
	"errors"
	"net/http"

	"github.com/flix-lab/flix/services"
)

const (
	// alias is the only name the client uses for the index. A write to an
	// alias that is missing fails, while one to an index that is missing would
	// create it with a guessed mapping.
	alias = "titles"
	// indexName is the index behind the alias, named after its mapping's
	// version.
	indexName = "titles-v1"
)

// Fields of an indexed title. Countries are not among them: whoever shows hits
// reads the titles anyway and knows the viewer's country.
const (
	fieldID       = "id" // orders equal scores
	fieldName     = "name"
	fieldStarts   = "name.starts" // every start of every word
	fieldExact    = "name.exact"  // the whole name, normalised
	fieldSynopsis = "synopsis"
	fieldGenres   = "genres"
)

const (
	// maxWords and maxWordLetters bound what a query may cost.
	maxWords       = 8
	maxWordLetters = 64
	// maxStart is the longest start of a word that is indexed; longer ones
	// match by the whole word, or nearly.
	maxStart = 20
	// maxExact is the longest name, in characters, that is found as a whole.
	maxExact = 1024
)

// object is a JSON object to be sent.
type object map[string]any

// definition is the index: its settings, its mapping and its alias.
//
// All text is compared in lower case and without accents, be they written as
// one character with their letter or as one of their own. Words of a query are
// cut to a number and length here, so that text of any kind costs no more.
func definition() object {
	return object{
		"settings": object{
			"number_of_shards": 1, "number_of_replicas": 0,
			"analysis": object{
				"char_filter": object{
					"no_marks": object{"type": "pattern_replace", "pattern": "[\\u0300-\\u036f]", "replacement": ""},
					// What is not known to be a sign stays: a letter newer than the
					// server's Java must not leave an empty text.
					"no_signs": object{"type": "pattern_replace", "pattern": "[\\p{P}\\p{S}\\p{Z}\\p{Cc}\\p{Cf}]+", "replacement": " "},
				},
				"filter": object{
					"starts":    object{"type": "edge_ngram", "min_gram": 1, "max_gram": maxStart},
					"few_words": object{"type": "limit", "max_token_count": maxWords},
					"no_giants": object{"type": "length", "max": maxWordLetters},
				},
				"analyzer": object{
					"words":  words(),
					"starts": words("starts"),
					"query":  words("no_giants", "few_words"),
				},
				"normalizer": object{
					"whole": object{"type": "custom", "char_filter": []string{"no_marks", "no_signs"}, "filter": []string{"lowercase", "asciifolding", "trim"}},
				},
			},
		},
		"mappings": object{
			"dynamic": "strict",
			"properties": object{
				fieldID: object{"type": "keyword", "index": false},
				fieldName: text("words", object{"fields": object{
					"starts": text("starts", nil),
					"exact":  object{"type": "keyword", "normalizer": "whole", "ignore_above": maxExact, "doc_values": false},
				}}),
				fieldSynopsis: text("words", nil),
				fieldGenres:   text("words", nil),
			},
		},
		"aliases": object{alias: object{}},
	}
}

// words is an analyzer of text, with further filters.
func words(filters ...string) object {
	return object{
		"type": "custom", "char_filter": []string{"no_marks"},
		"tokenizer": "standard", "filter": append([]string{"lowercase", "asciifolding"}, filters...),
	}
}

// text is a field whose documents go through an analyzer and whose queries go
// through that of queries.
func text(analyzer string, more object) object {
	f := object{"type": "text", "analyzer": analyzer, "search_analyzer": "query"}
	for k, v := range more {
		f[k] = v
	}
	return f
}

// create makes the index, unless another client was first. It returns when the
// index takes documents.
func (c *Client) create(ctx context.Context) error {
	body, err := encode(definition())
	if err != nil {
		return err
	}
	err = c.do(ctx, request{method: http.MethodPut, path: "/" + indexName, body: body, op: "make the index"}, nil)
	if services.ReasonOf(err) == reasonExists {
		return nil
	}
	return err
}

// missing says that there is no index to write to yet, or not any more.
func missing(err error) bool {
	var e *services.Error
	return errors.As(err, &e) && e.Reason == reasonNoIndex
}
