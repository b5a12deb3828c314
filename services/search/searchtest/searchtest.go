// Package searchtest is the contract of search.Index: every adapter passes Run
// in its own tests.
package searchtest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/search"
)

// Catalogue is what Run puts into the index.
func Catalogue() []search.Doc {
	return []search.Doc{
		{ID: "tt-harbor-lights", Name: "Harbor Lights", Synopsis: "A pilot guides ships home through fog.", Genres: []string{"drama"}},
		{ID: "tt-harbor", Name: "Harbor", Synopsis: "The lights of a town go out one by one.", Genres: []string{"thriller"}},
		{ID: "tt-northern-lights", Name: "Northern Lights", Synopsis: "An expedition beyond the last harbor.", Genres: []string{"documentary"}},
		{ID: "tt-amelie", Name: "Amélie & the Clock", Synopsis: "Time stands still in a small café.", Genres: []string{"comedy"}},
		{ID: "tt-the-clockmaker", Name: "The Clockmaker", Synopsis: "He builds what nobody can stop.", Genres: []string{"science fiction"}, Countries: []string{"US"}},
		{ID: "tt-kaze", Name: "風の谷", Synopsis: "A valley, and the wind in it.", Genres: []string{"animation"}},
	}
}

// Run checks an index against the contract. open returns a client of a running
// index; each call may return the same one. Run leaves nothing but Catalogue
// in it.
func Run(t *testing.T, open func(t testing.TB) search.Index) {
	idx := open(t)
	if err := idx.Put(ctx(t), Catalogue()...); err != nil {
		t.Fatalf("Put: %v", err)
	}
	t.Run("ranking", func(t *testing.T) { ranking(t, idx) })
	t.Run("nothing found", func(t *testing.T) { nothing(t, idx) })
	t.Run("limit", func(t *testing.T) { limit(t, idx) })
	t.Run("put replaces", func(t *testing.T) { replaces(t, idx) })
	t.Run("delete", func(t *testing.T) { deletes(t, idx) })
	t.Run("concurrent use", func(t *testing.T) { concurrent(t, idx) })
	t.Run("wrong requests are invalid", func(t *testing.T) {
		if err := idx.Put(ctx(t), search.Doc{Name: "no id"}); services.KindOf(err) != services.Invalid {
			t.Errorf("Put without id: %v", err)
		}
	})
	t.Run("ended context is unavailable", func(t *testing.T) {
		c, cancel := context.WithCancel(ctx(t))
		cancel()
		if _, err := idx.Search(c, "harbor", 1); services.KindOf(err) != services.Unavailable {
			t.Errorf("Search: %v", err)
		}
	})
}

func ctx(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(t.Context(), time.Minute) // only a hang takes as long
	t.Cleanup(cancel)
	return c
}

func find(t testing.TB, idx search.Index, query string, limit int) []search.Hit {
	t.Helper()
	hits, err := idx.Search(ctx(t), query, limit)
	if err != nil {
		t.Fatalf("Search %q: %v", query, err)
	}
	for i, h := range hits {
		if i > 0 && hits[i-1].ID == h.ID {
			t.Errorf("Search %q lists %s twice", query, h.ID)
		}
	}
	return hits
}

func ids(hits []search.Hit) []services.TitleID {
	out := make([]services.TitleID, len(hits))
	for i, h := range hits {
		out[i] = h.ID
	}
	return out
}

func ranking(t *testing.T, idx search.Index) {
	cases := []struct {
		query string
		first services.TitleID
	}{
		{"Harbor Lights", "tt-harbor-lights"},
		{"  harbor   LIGHTS! ", "tt-harbor-lights"},
		{"Harbor", "tt-harbor"},
		{"lights harbor", "tt-harbor-lights"},
		{"northern", "tt-northern-lights"},
		{"north", "tt-northern-lights"},          // the start of a word
		{"harbro lihgts", "tt-harbor-lights"},    // swapped letters
		{"harbour lights", "tt-harbor-lights"},   // one too many
		{"Narthern Lghts", "tt-northern-lights"}, // one wrong, one lost
		{"clokmaker", "tt-the-clockmaker"},
		{"amelie", "tt-amelie"}, // without its accent
		{"AMÉLIE & THE CLOCK", "tt-amelie"},
		{"thriller", "tt-harbor"}, // genre
		{"expedition", "tt-northern-lights"},
		{"fog ships", "tt-harbor-lights"},
		{"風の谷", "tt-kaze"},
	}
	for _, c := range cases {
		hits := find(t, idx, c.query, 10)
		if len(hits) == 0 || hits[0].ID != c.first {
			t.Errorf("Search %q = %v, want %s first", c.query, ids(hits), c.first)
			continue
		}
		for _, d := range Catalogue() {
			if d.ID == c.first && hits[0].Name != d.Name {
				t.Errorf("Search %q: name is %q, want %q", c.query, hits[0].Name, d.Name)
			}
		}
	}
	if hits := find(t, idx, "lights", 10); len(hits) != 3 || hits[2].ID != "tt-harbor" {
		t.Errorf("Search lights = %v, want the names before the synopsis", ids(hits))
	}
}

func nothing(t *testing.T, idx search.Index) {
	for _, q := range []string{"", "  ", "!?", "xylophonist", "\x00", "*", "name:harbor^9999 AND ("} {
		hits := find(t, idx, q, 10)
		if q != "name:harbor^9999 AND (" && len(hits) != 0 {
			t.Errorf("Search %q = %v, want nothing", q, ids(hits))
		}
	}
}

func limit(t *testing.T, idx search.Index) {
	if hits := find(t, idx, "harbor lights", 2); len(hits) != 2 {
		t.Errorf("limit 2 gave %d hits", len(hits))
	}
	if hits := find(t, idx, "harbor lights", 0); len(hits) != 3 {
		t.Errorf("no limit gave %d hits, want 3", len(hits))
	}
}

func replaces(t *testing.T, idx search.Index) {
	d := search.Doc{ID: "tt-passing", Name: "Quicksilver"}
	for _, name := range []string{"Quicksilver", "Tidewater", "Tidewater"} {
		d.Name = name
		if err := idx.Put(ctx(t), d); err != nil {
			t.Fatal(err)
		}
	}
	if hits := find(t, idx, "quicksilver", 10); len(hits) != 0 {
		t.Errorf("the old name still finds %v", ids(hits))
	}
	if hits := find(t, idx, "tidewater", 10); len(hits) != 1 || hits[0].Name != "Tidewater" {
		t.Errorf("the new name finds %v", hits)
	}
	if err := idx.Delete(ctx(t), d.ID); err != nil {
		t.Fatal(err)
	}
}

func deletes(t *testing.T, idx search.Index) {
	var all []services.TitleID
	for i := range 5 {
		id := services.TitleID(fmt.Sprintf("tt-gone-%d", i))
		all = append(all, id)
		if err := idx.Put(ctx(t), search.Doc{ID: id, Name: "Ephemeral"}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := idx.Delete(ctx(t), append(all[1:], "tt-never")...); err != nil {
			t.Fatal(err)
		}
	}
	if got := ids(find(t, idx, "ephemeral", 10)); !slices.Equal(got, all[:1]) {
		t.Errorf("Search = %v, want %v", got, all[:1])
	}
	if err := idx.Delete(ctx(t), all...); err != nil {
		t.Fatal(err)
	}
}

func concurrent(t *testing.T, idx search.Index) {
	var wg sync.WaitGroup
	c := ctx(t)
	for i := range 4 {
		id := services.TitleID(fmt.Sprintf("tt-busy-%d", i))
		wg.Go(func() {
			for range 5 {
				if err := idx.Put(c, search.Doc{ID: id, Name: "Busybody"}); err != nil {
					t.Errorf("Put: %v", err)
				}
				if hits, err := idx.Search(c, "busybody", 10); err != nil || !slices.Contains(ids(hits), id) {
					t.Errorf("Search after Put = %v, %v; want %s", ids(hits), err, id)
				}
			}
			if err := idx.Delete(c, id); err != nil {
				t.Errorf("Delete: %v", err)
			}
		})
	}
	wg.Wait()
}
