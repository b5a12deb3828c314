package recommend

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/recommend/recommendpb"
	"github.com/flix-lab/flix/services/sqldb"
)

const (
	// rowTitles is the length of a row.
	rowTitles = 20
	// genreRows is how many rows of liked genres a page has.
	genreRows = 2
	// finished is the share of a title after which it counts as watched.
	finished = 0.95
)

// signals are what a page is made from. The items are as the pipeline wrote
// them: bookmarks {position_s, at}, popularity {score}.
type signals struct {
	titles    []sqldb.Title // watchable, by name
	bookmarks []kv.Item
	popular   []kv.Item
}

// rows makes the page. Rows without a title are left out.
func (in signals) rows() []*recommendpb.Row {
	begun, seen, liked := in.history()
	var rows []*recommendpb.Row
	add := func(name string, titles []sqldb.Title) {
		if len(titles) > 0 {
			rows = append(rows, row(name, titles))
		}
	}
	add("Continue watching", begun)
	add("Popular here", in.ranked())
	for _, genre := range liked {
		add("Because you watch "+genre, in.of(genre, seen))
	}
	add("New", in.newest())
	return rows
}

// history returns the titles the member left in the middle, last one first,
// all they have watched anything of, and the genres they watch most.
func (in signals) history() (begun, seen []sqldb.Title, genres []string) {
	type place struct {
		title sqldb.Title
		at    time.Time
	}
	var places []place
	weight := make(map[string]int)
	for _, it := range in.bookmarks {
		i := slices.IndexFunc(in.titles, func(t sqldb.Title) bool { return string(t.ID) == it.Sort })
		var b struct {
			PositionS float64   `json:"position_s"`
			At        time.Time `json:"at"`
		}
		if i < 0 || json.Unmarshal(it.Value, &b) != nil {
			continue
		}
		t := in.titles[i]
		seen = append(seen, t)
		for _, g := range t.Genres {
			weight[g]++
		}
		if b.PositionS > 0 && b.PositionS < finished*t.Duration.Seconds() {
			places = append(places, place{t, b.At})
		}
	}
	slices.SortStableFunc(places, func(a, b place) int { return b.at.Compare(a.at) })
	for _, p := range places {
		begun = append(begun, p.title)
	}
	for g := range weight {
		genres = append(genres, g)
	}
	slices.SortFunc(genres, func(a, b string) int { return cmp.Or(weight[b]-weight[a], cmp.Compare(a, b)) })
	return begun, seen, genres[:min(len(genres), genreRows)]
}

// ranked returns the titles somebody watches, most popular first.
func (in signals) ranked() []sqldb.Title {
	score := make(map[string]float64, len(in.popular))
	for _, it := range in.popular {
		var p struct {
			Score float64 `json:"score"`
		}
		if json.Unmarshal(it.Value, &p) == nil && p.Score > 0 {
			score[it.Sort] = p.Score
		}
	}
	out := slices.DeleteFunc(slices.Clone(in.titles), func(t sqldb.Title) bool { return score[string(t.ID)] == 0 })
	slices.SortStableFunc(out, func(a, b sqldb.Title) int { return cmp.Compare(score[string(b.ID)], score[string(a.ID)]) })
	return out
}

// of returns the titles of a genre that the member has not seen.
func (in signals) of(genre string, seen []sqldb.Title) []sqldb.Title {
	return slices.DeleteFunc(slices.Clone(in.titles), func(t sqldb.Title) bool {
		return !slices.Contains(t.Genres, genre) || slices.ContainsFunc(seen, func(b sqldb.Title) bool { return b.ID == t.ID })
	})
}

func (in signals) newest() []sqldb.Title {
	out := slices.Clone(in.titles)
	slices.SortStableFunc(out, func(a, b sqldb.Title) int { return b.Year - a.Year })
	return out
}

// everything is the page without any signal: the catalogue by name.
func everything(titles []sqldb.Title) []*recommendpb.Row {
	return []*recommendpb.Row{row("All titles", titles)}
}

func row(name string, titles []sqldb.Title) *recommendpb.Row {
	r := &recommendpb.Row{Name: name}
	for _, t := range titles[:min(len(titles), rowTitles)] {
		r.TitleIds = append(r.TitleIds, string(t.ID))
	}
	return r
}
