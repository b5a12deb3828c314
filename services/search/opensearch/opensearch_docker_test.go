package opensearch_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/dockertest"
	"github.com/flix-lab/flix/services/search"
	"github.com/flix-lab/flix/services/search/opensearch"
	"github.com/flix-lab/flix/services/search/searchtest"
	"github.com/flix-lab/flix/services/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newClient(t testing.TB, c opensearch.Config) *opensearch.Client {
	t.Helper()
	if c.Tel == nil {
		c.Tel = telemetry.Discard()
	}
	cl, err := opensearch.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cl.Close(); err != nil {
			t.Error(err)
		}
	})
	return cl
}

// TestServer runs against one real OpenSearch.
func TestServer(t *testing.T) {
	c := startContainer(t)
	url, err := c.url(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	idx := newClient(t, opensearch.Config{Endpoint: fixed(url)})
	firstUse(t, idx)
	t.Run("contract", func(t *testing.T) {
		searchtest.Run(t, func(testing.TB) search.Index { return idx })
	})
	t.Run("ranking beyond the contract", func(t *testing.T) { ranking(t, idx) })
	t.Run("many documents", func(t *testing.T) { many(t, idx) })
	t.Run("lost index is made again", func(t *testing.T) { lost(t, idx, url) })
	t.Run("restart", func(t *testing.T) { restart(t, idx, c, url) })
}

func fixed(url string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return url, nil }
}

// firstUse waits for a server that is starting: until it answers, everything
// is unavailable. Then it searches and deletes before anything was put, and
// lets several clients put at the same time, of which one makes the index.
func firstUse(t *testing.T, idx *opensearch.Client) {
	awaitAnswer(t, idx)
	if hits, err := idx.Search(t.Context(), "harbor", 1); err != nil || len(hits) != 0 {
		t.Errorf("Search before the first Put = %v, %v", hits, err)
	}
	if err := idx.Delete(t.Context(), "tt-1", ""); err != nil {
		t.Errorf("Delete before the first Put: %v", err)
	}
	if err := idx.Put(t.Context()); err != nil {
		t.Errorf("Put of nothing: %v", err)
	}
	var wg sync.WaitGroup
	var all []services.TitleID
	for i := range 4 {
		id := services.TitleID(fmt.Sprintf("tt-first-%d", i))
		all = append(all, id)
		wg.Go(func() {
			if err := idx.Put(t.Context(), search.Doc{ID: id, Name: "Firstling"}); err != nil {
				t.Errorf("first Put: %v", err)
			}
		})
	}
	wg.Wait()
	wantIDs(t, idx, "firstling", all...)
	if err := idx.Delete(t.Context(), all...); err != nil {
		t.Error(err)
	}
}

// awaitAnswer polls until the server answers.
func awaitAnswer(t *testing.T, idx *opensearch.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for unavailable := 0; ; unavailable++ {
		_, err := idx.Search(ctx, "harbor", 1)
		if err == nil {
			t.Logf("%d searches were unavailable before the first answer", unavailable)
			return
		}
		if services.KindOf(err) != services.Unavailable {
			t.Fatalf("Search while the server starts: %v, of kind %s", err, services.KindOf(err))
		}
		select {
		case <-ctx.Done():
			t.Fatalf("no answer: %v", err)
		case <-tick.C:
		}
	}
}

func wantIDs(t *testing.T, idx search.Index, query string, want ...services.TitleID) {
	t.Helper()
	hits, err := idx.Search(t.Context(), query, 100)
	if err != nil {
		t.Fatalf("Search %q: %v", query, err)
	}
	var got []services.TitleID
	for _, h := range hits {
		got = append(got, h.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("Search %q = %v, want %v", query, got, want)
	}
}

// ranking checks names that are the query, the order of equals, accents in both
// of their forms, and queries that are long or look like syntax.
func ranking(t *testing.T, idx search.Index) {
	docs := []search.Doc{
		{ID: "tt-3", Name: "Zephyr"}, {ID: "tt-1", Name: "zephyr!"}, {ID: "tt-2", Name: "ZEPHYR"},
		{ID: "tt-4", Name: "Zephyr Zephyr Zephyr", Genres: []string{"zephyr", "zephyr"}, Synopsis: "zephyr zephyr zephyr zephyr"},
		{ID: "tt-5", Name: "Ame\u0301thyste"}, {ID: "tt-6", Name: "Am\u00e9thyste Noire"}, {ID: "tt-7", Name: ""},
		{ID: "tt-8", Name: "Say \"AND\" (or) /quit/ \\n* {\"x\":1}"},
	}
	if err := idx.Put(t.Context(), docs...); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, idx, "zephyr", "tt-1", "tt-2", "tt-3", "tt-4")
	for _, q := range []string{"amethyste", "Am\u00e9thyste", "AME\u0301THYSTE"} {
		wantIDs(t, idx, q, "tt-5", "tt-6")
	}
	// Its "n" and "or" are starts of other titles' words, which come after.
	if hits, err := idx.Search(t.Context(), docs[7].Name, 10); err != nil || len(hits) == 0 || hits[0].ID != "tt-8" {
		t.Errorf("Search %q = %v, %v; want tt-8 first", docs[7].Name, hits, err)
	}
	wantIDs(t, idx, "\u0301")
	if hits, err := idx.Search(t.Context(), "zephyr", 1); err != nil || len(hits) != 1 || hits[0].ID != "tt-1" {
		t.Errorf("Search with limit 1 = %v, %v", hits, err)
	}
	long := ""
	for len(long) < 500 {
		long += "zephyr "
	}
	for _, q := range []string{long, "zéphyr" + long[:480], "\xff\xfe zephyr", "😀 zephyr", "zephyr AND NOT (*:*)"} {
		if hits, err := idx.Search(t.Context(), q, 10); err != nil || len(hits) == 0 {
			t.Errorf("Search %.30q = %v, %v", q, hits, err)
		}
	}
	if _, err := idx.Search(t.Context(), long+long, 10); services.KindOf(err) != services.Invalid {
		t.Errorf("a query of %d bytes: %v", 2*len(long), err)
	}
	var ids []services.TitleID
	for _, d := range docs {
		ids = append(ids, d.ID)
	}
	if err := idx.Delete(t.Context(), ids...); err != nil {
		t.Fatal(err)
	}
}

// many puts more than fits into a batch.
func many(t *testing.T, idx search.Index) {
	var docs []search.Doc
	var ids []services.TitleID
	for i := range 2500 {
		d := search.Doc{ID: services.TitleID(fmt.Sprintf("tt-many-%04d", i)), Name: fmt.Sprintf("Multitude %04d", i)}
		docs, ids = append(docs, d), append(ids, d.ID)
	}
	if err := idx.Put(t.Context(), docs...); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 999, 1000, 2499} {
		if hits, err := idx.Search(t.Context(), docs[n].Name, 1); err != nil || len(hits) != 1 || hits[0].ID != ids[n] {
			t.Errorf("Search %q = %v, %v", docs[n].Name, hits, err)
		}
	}
	if hits, err := idx.Search(t.Context(), "multitude", 1000); err != nil || len(hits) != 100 {
		t.Errorf("limit 1000 gave %d hits, %v", len(hits), err)
	}
	if err := idx.Delete(t.Context(), ids...); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, idx, "multitude")
}

// lost takes the index away behind the client's back.
func lost(t *testing.T, idx search.Index, url string) {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, url+"/titles-v1", nil)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("the index is not deleted: %s", resp.Status)
	}
	wantIDs(t, idx, "harbor")
	if err := idx.Put(t.Context(), search.Doc{ID: "tt-1", Name: "Café Ångström"}); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, idx, "cafe angstrom", "tt-1") // with the mapping that folds accents
}

// restart kills the server and starts it again: the client is unavailable
// meanwhile, needs no help afterwards, and what was put is there.
func restart(t *testing.T, idx *opensearch.Client, c *container, url string) {
	if _, err := dockertest.Run("kill", c.name); err != nil {
		t.Fatal(err)
	}
	if _, err := idx.Search(t.Context(), "cafe", 1); services.KindOf(err) != services.Unavailable {
		t.Errorf("Search on a dead server: %v", err)
	}
	if err := idx.Put(t.Context(), search.Doc{ID: "tt-2", Name: "x"}); services.KindOf(err) != services.Unavailable {
		t.Errorf("Put on a dead server: %v", err)
	}
	if _, err := dockertest.Run("start", c.name); err != nil {
		t.Fatal(err)
	}
	now, err := c.url(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again := newClient(t, opensearch.Config{Endpoint: fixed(now)})
	awaitAnswer(t, again)
	wantIDs(t, again, "cafe angstrom", "tt-1")
	if now != url {
		return // Docker chose another port: the old client's address is dead
	}
	wantIDs(t, idx, "cafe angstrom", "tt-1")
}
