package embedded

import (
	"strings"
	"unicode"

	"github.com/blevesearch/bleve/v2"
	"github.com/blevesearch/bleve/v2/analysis/analyzer/custom"
	"github.com/blevesearch/bleve/v2/analysis/analyzer/keyword"
	"github.com/blevesearch/bleve/v2/analysis/char/asciifolding"
	"github.com/blevesearch/bleve/v2/analysis/token/lowercase"
	unicodetokens "github.com/blevesearch/bleve/v2/analysis/tokenizer/unicode"
	"github.com/blevesearch/bleve/v2/mapping"
)

// Fields of an indexed title. Countries are not among them: whoever shows hits
// reads the titles anyway and knows the viewer's country.
const (
	fieldName     = "name"
	fieldExact    = "exact" // the whole name, normalised
	fieldSynopsis = "synopsis"
	fieldGenres   = "genres"
)

// words is the analyzer of all text: lower case, without accents.
const words = "words"

func newMapping() (mapping.IndexMapping, error) {
	m := bleve.NewIndexMapping()
	err := m.AddCustomAnalyzer(words, map[string]any{
		"type": custom.Name, "char_filters": []string{asciifolding.Name},
		"tokenizer": unicodetokens.Name, "token_filters": []string{lowercase.Name},
	})
	if err != nil {
		return nil, err
	}
	field := func(analyzer string, store bool) *mapping.FieldMapping {
		f := bleve.NewTextFieldMapping()
		f.Analyzer, f.Store = analyzer, store
		// Nothing is highlighted, sorted or counted by field: leave out what
		// only serves that.
		f.IncludeTermVectors, f.IncludeInAll, f.DocValues = false, false, false
		return f
	}
	doc := bleve.NewDocumentStaticMapping()
	doc.AddFieldMappingsAt(fieldName, field(words, true))
	doc.AddFieldMappingsAt(fieldExact, field(keyword.Name, false))
	doc.AddFieldMappingsAt(fieldSynopsis, field(words, false))
	doc.AddFieldMappingsAt(fieldGenres, field(words, false))
	m.DefaultMapping, m.DefaultAnalyzer = doc, words
	return m, nil
}

// normal is the form in which two names are the same: its letters and digits
// in lower case, words apart by one space.
func normal(name string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(name), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r)
	}), " ")
}
