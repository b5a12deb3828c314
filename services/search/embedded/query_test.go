package embedded

import (
	"net"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/search/searchpb"
	"github.com/flix-lab/flix/services/telemetry"
)

func newServer(t testing.TB) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewServer(Config{Dir: t.TempDir(), RPC: l, Tel: telemetry.Discard()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := s.index.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// No text makes a search fail, and a title is found by its own name.
func FuzzQuery(f *testing.F) {
	s := newServer(f)
	if _, err := s.Put(f.Context(), &searchpb.PutRequest{Docs: []*searchpb.Doc{{Id: "tt-1", Name: "Harbor Lights"}, {Id: "tt-2", Name: "Amélie"}}}); err != nil {
		f.Fatal(err)
	}
	for _, q := range []string{"", "harbor", "harbor lights", "Ame\u0301lie", "name:x AND (", "\x00", "\xff\xfe", "😀 ", strings.Repeat("ab ", 100), strings.Repeat("z", 300)} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, q string) {
		r, err := s.Query(t.Context(), &searchpb.QueryRequest{Query: q, Limit: 5})
		if len(q) > maxQuery {
			if services.KindOf(err) != services.Invalid {
				t.Errorf("a query of %d bytes: %v", len(q), err)
			}
			return
		}
		if err != nil {
			t.Fatalf("Query %q: %v", q, err)
		}
		if len(r.GetHits()) > 2 {
			t.Errorf("Query %q: %d hits of 2 titles", q, len(r.GetHits()))
		}
		if normal(q) == "harbor lights" && utf8.ValidString(q) && (len(r.GetHits()) == 0 || r.GetHits()[0].GetId() != "tt-1") {
			t.Errorf("Query %q does not find the name that it is", q)
		}
	})
}

func TestNormal(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "  A  b ": "a b", "Amélie & the Clock": "amélie the clock", "What?!": "what", "風の谷": "風の谷", "20/20": "20 20",
	} {
		if got := normal(in); got != want {
			t.Errorf("normal(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestFuzziness(t *testing.T) {
	for word, want := range map[string]int{"a": 0, "ab": 0, "abc": 1, "abcde": 1, "abcdef": 2, "風の谷": 1} {
		if got := fuzziness(word); got != want {
			t.Errorf("fuzziness(%q) = %d, want %d", word, got, want)
		}
	}
}

func TestExactFirst(t *testing.T) {
	hits := []*searchpb.Hit{{Id: "1", Name: "Harbor Lights"}, {Id: "2", Name: "harbor"}, {Id: "3", Name: "Harbors"}}
	exactFirst(hits, "harbor")
	if hits[0].GetId() != "2" || hits[1].GetId() != "1" || hits[2].GetId() != "3" {
		t.Errorf("order is %v", hits)
	}
}
