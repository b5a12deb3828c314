package record

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
)

func sample(id string, at time.Time, failed float64) Record {
	return Record{
		ID: id, Kind: "failover", Subject: "us-east", Started: at, Ended: at.Add(10 * time.Second), State: "done", Summary: "a <b>summary</b> & more",
		Figures: []Figure{{Name: "RTO", Value: 2500, Unit: "ms", Better: "less"}, {Name: "plays failed", Value: failed, Better: "less"}, {Name: "plays", Value: 20}},
		Series:  []Series{{Name: "requests <us-east>", Unit: "1/s", Points: []Point{{0, 10}, {5, 20}, {10, 0}}}, {Name: "nothing", Points: []Point{}}},
		Phases:  []Phase{{Name: "plan", From: 0, To: 1, Text: `savers: "us-west"`}, {Name: "proxy", From: 1, To: 10}},
		Marks:   []Mark{{At: 3, Text: "a play failed", Bad: true}},
	}
}

var began = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func TestStore(t *testing.T) {
	s := In(t.TempDir())
	if _, err := s.Get(""); services.KindOf(err) != services.NotFound {
		t.Errorf("of an empty store: %v", err)
	}
	for i, id := range []string{"abc-2", "abd-1"} {
		if err := s.Keep(sample(id, began.Add(-time.Duration(i)*time.Hour), 0)); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.List()
	if err != nil || len(all) != 2 || all[0].ID != "abd-1" || all[1].Notes == nil {
		t.Errorf("list %+v, %v", all, err)
	}
	for want, id := range map[string]string{"abc-2": "", "abd-1": "abd"} {
		if r, err := s.Get(id); err != nil || r.ID != want {
			t.Errorf("get %q: %s, %v", id, r.ID, err)
		}
	}
	if _, err := s.Get("ab"); services.KindOf(err) != services.Invalid {
		t.Errorf("two begin so: %v", err)
	}
	if _, err := s.Get("../x"); services.KindOf(err) != services.NotFound {
		t.Errorf("a path: %v", err)
	}
	bad := sample("../up", began, 0)
	if err := s.Keep(bad); err == nil {
		t.Error("an id that is a path is kept")
	}
	// One that is damaged does not hide the others.
	if err := os.WriteFile(s.path("torn"), []byte(`{"id":"torn"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if all, err := s.List(); err == nil || len(all) != 2 {
		t.Errorf("%d records beside a damaged one, error %v", len(all), err)
	}
}

func TestOldestGo(t *testing.T) {
	s := In(t.TempDir())
	for i := range maxRecords + 5 {
		if err := s.Keep(sample(fmt.Sprintf("r-%04d", i), began.Add(time.Duration(i)*time.Second), 0)); err != nil {
			t.Fatal(err)
		}
		at := began.Add(time.Duration(i) * time.Second)
		if err := os.Chtimes(s.path(fmt.Sprintf("r-%04d", i)), at, at); err != nil && i >= 5 {
			t.Fatal(err)
		}
	}
	all, err := s.List()
	if err != nil || len(all) != maxRecords || all[len(all)-1].ID != fmt.Sprintf("r-%04d", maxRecords+4) {
		t.Errorf("%d kept, error %v", len(all), err)
	}
}

func TestCompare(t *testing.T) {
	now, before := sample("b", began, 2), sample("a", began, 0)
	before.Figures[0].Value, before.Figures[2].Value = 5000, 30
	got := map[string]string{}
	for _, c := range Compare(now, before) {
		got[c.Name] = c.Verdict
	}
	if got["RTO"] != "better" || got["plays failed"] != "worse" || got["plays"] != "changed" || len(got) != 3 {
		t.Errorf("%v", got)
	}
}

// TestSVGIsXML draws texts that have to be escaped.
func TestSVGIsXML(t *testing.T) {
	svg := SVG(sample("a", began, 0))
	d := xml.NewDecoder(strings.NewReader(svg))
	n := map[string]int{}
	for {
		tok, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v in %s", err, svg)
		}
		if e, ok := tok.(xml.StartElement); ok {
			n[e.Name.Local]++
		}
	}
	if n["rect"] != 2 || n["polyline"] != 1 || n["svg"] != 1 {
		t.Errorf("elements %v", n)
	}
}

func TestHTMLStandsAlone(t *testing.T) {
	var b bytes.Buffer
	before := sample("a", began, 1)
	if err := HTML(&b, sample("b", began, 0), &before); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, want := range []string{"<svg", "a &lt;b&gt;summary", "2500 ms", `class="better"`, "before (a)"} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is missing", want)
		}
	}
	for _, not := range []string{"<b>summary", "src=", "href=", "<script"} {
		if strings.Contains(page, not) {
			t.Errorf("it has %q", not)
		}
	}
}

func TestMarkdown(t *testing.T) {
	var b bytes.Buffer
	if err := Markdown(&b, sample("b", began, 0), nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# failover of us-east: done", "| RTO | 2500 ms |", "plan               █████·", "! ", "max 20 1/s"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
}

func TestBars(t *testing.T) {
	bars, top := Series{Points: []Point{{0, 0}, {5, 4}, {9.9, 8}}}.Bars(10, 10)
	if top != 8 || len([]rune(bars)) != 10 || []rune(bars)[9] != '█' || []rune(bars)[0] != '▁' {
		t.Errorf("%q up to %g", bars, top)
	}
	if got := (Phase{From: 5, To: 6}).Bar(10, 10); got != "·····█····" {
		t.Errorf("%q", got)
	}
	if got := (Phase{From: 10, To: 10}).Bar(10, 10); len([]rune(got)) != 10 {
		t.Errorf("%q", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"id":"a","kind":"load","started":"2026-11-26T12:00:00Z","series":[{"name":"x","points":[{"at":1,"value":2}]}],"phases":[{"name":"p","from":2,"to":1}]}`))
	f.Add([]byte(`{"id":"../a","kind":"load"}`))
	f.Add([]byte(`{"id":"a","kind":"load","started":"2026-11-26T12:00:00Z","ended":"1999-11-26T12:00:00Z","phases":[{"from":-1e300,"to":1e300}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err != nil {
			return
		}
		// Whatever can be read can be shown.
		if err := HTML(io.Discard, r, &r); err != nil {
			t.Error(err)
		}
		if err := Markdown(io.Discard, r, &r); err != nil {
			t.Error(err)
		}
	})
}
