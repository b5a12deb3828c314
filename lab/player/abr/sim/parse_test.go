package sim

import (
	"bytes"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/flix-lab/flix/services"
)

func TestParseNetworkSaysWhatIsWrong(t *testing.T) {
	for _, tc := range []struct{ name, text, mentions string }{
		{"empty", ``, "network"},
		{"not a list", `{"duration_ms": 1}`, "object where a list is wanted"},
		{"no period", `[]`, "there is no period"},
		{"syntax", "[\n{\"duration_ms\": 1,, }]", "line 2"},
		{"missing", `[{"duration_ms":1,"bandwidth_kbps":2,"latency_ms":3},{"duration_ms":1,"latency_ms":3}]`, "network[1].bandwidth_kbps: it is missing"},
		{"null", `[{"duration_ms":null,"bandwidth_kbps":2,"latency_ms":3}]`, "network[0].duration_ms: it is missing"},
		{"negative", `[{"duration_ms":1,"bandwidth_kbps":2,"latency_ms":-3}]`, "network[0].latency_ms: -3 is below 0"},
		{"a word", "[{\"duration_ms\":1,\"bandwidth_kbps\":2,\"latency_ms\":3},\n{\"duration_ms\":1,\"bandwidth_kbps\":\"fast\",\"latency_ms\":3}]", "network[1].bandwidth_kbps: line 2: it is string"},
		{"too large", `[{"duration_ms":1,"bandwidth_kbps":1e999,"latency_ms":3}]`, "network[0].bandwidth_kbps"},
		{"an element that is none", `[{"duration_ms":1,"bandwidth_kbps":2,"latency_ms":3}, 7]`, "network[1]"},
		{"nothing arrives", `[{"duration_ms":1,"bandwidth_kbps":0,"latency_ms":3},{"duration_ms":0,"bandwidth_kbps":5,"latency_ms":3}]`, "nothing would ever arrive"},
		{"two values", `[{"duration_ms":1,"bandwidth_kbps":2,"latency_ms":3}] []`, "network"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ParseNetwork(strings.NewReader(tc.text), "n.json")
			wantInvalid(t, err, "n.json", tc.mentions)
		})
	}
}

func wantInvalid(t *testing.T, err error, file, mentions string) {
	t.Helper()
	if services.KindOf(err) != services.Invalid || !strings.Contains(err.Error(), mentions) || !strings.Contains(err.Error(), file) {
		t.Errorf("got %q, want it to be invalid and to mention %q", err, mentions)
	}
	if err != nil && services.ProblemOf(err).Remedy == "" {
		t.Errorf("%q has no remedy", err)
	}
}

func TestParseMovieSaysWhatIsWrong(t *testing.T) {
	for _, tc := range []struct{ name, text, mentions string }{
		{"not an object", `[]`, "movie"},
		{"no duration", `{"bitrates_kbps":[1],"segment_sizes_bits":[[1]]}`, "segment_duration_ms: it is missing"},
		{"no time", `{"segment_duration_ms":0,"bitrates_kbps":[1],"segment_sizes_bits":[[1]]}`, "segment_duration_ms: 0 is not above 0"},
		{"no rung", `{"segment_duration_ms":1,"bitrates_kbps":[],"segment_sizes_bits":[[1]]}`, "bitrates_kbps: there is no bit rate"},
		{"falling", `{"segment_duration_ms":1,"bitrates_kbps":[2,1],"segment_sizes_bits":[[1,1]]}`, "bitrates_kbps[1]: 1 is not above 2"},
		{"no segment", `{"segment_duration_ms":1,"bitrates_kbps":[1],"segment_sizes_bits":[]}`, "segment_sizes_bits: there is no segment"},
		{"a short row", `{"segment_duration_ms":1,"bitrates_kbps":[1,2],"segment_sizes_bits":[[1,1],[1]]}`, "segment_sizes_bits[1]: it has 1 sizes for 2 bit rates"},
		{"an empty segment", `{"segment_duration_ms":1,"bitrates_kbps":[1,2],"segment_sizes_bits":[[1,1],[1,0]]}`, "segment_sizes_bits[1][1]: 0 is not above 0"},
		{"a word", `{"segment_duration_ms":1,"bitrates_kbps":[1,2],"segment_sizes_bits":[[1,1],[1,"x"]]}`, "segment_sizes_bits[1][1]"},
		{"a number for a row", `{"segment_duration_ms":1,"bitrates_kbps":[1,2],"segment_sizes_bits":[[1,1],5]}`, "segment_sizes_bits[1]"},
		{"a null size", `{"segment_duration_ms":1,"bitrates_kbps":[1,2],"segment_sizes_bits":[[null,1]]}`, "segment_sizes_bits[0][0]: it is missing"},
		{"a word for a rung", `{"segment_duration_ms":1,"bitrates_kbps":[1,"2"],"segment_sizes_bits":[[1,1]]}`, "bitrates_kbps[1]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ParseMovie(strings.NewReader(tc.text), "m.json")
			wantInvalid(t, err, "m.json", tc.mentions)
		})
	}
}

func TestParseRefusesTooMuch(t *testing.T) {
	endless := io.MultiReader(strings.NewReader("["), &repeat{})
	if _, err := ParseNetwork(endless, "n.json"); services.KindOf(err) != services.Exhausted {
		t.Errorf("got %v", err)
	}
}

// repeat reads spaces without an end.
type repeat struct{}

func (*repeat) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

func FuzzParseNetwork(f *testing.F) {
	f.Add([]byte(`[{"duration_ms":1000,"bandwidth_kbps":500,"latency_ms":20}]`))
	f.Add([]byte(`[{"duration_ms":1000,"bandwidth_kbps":"x","latency_ms":20}]`))
	f.Add([]byte(`[{"duration_ms":1e3,"bandwidth_kbps":0,"latency_ms":2},{"duration_ms":1,"bandwidth_kbps":9,"latency_ms":0}]`))
	f.Add([]byte(`[[[[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ParseNetwork(bytes.NewReader(b), "n.json")
		if err != nil {
			if services.ProblemOf(err).Remedy == "" {
				t.Errorf("%q has no remedy", err)
			}
			return
		}
		total := 0.0
		for _, p := range got {
			for _, x := range []float64{p.DurationMS, p.BandwidthKbps, p.LatencyMS} {
				if x < 0 || math.IsNaN(x) || math.IsInf(x, 0) {
					t.Fatalf("%+v was let through", p)
				}
			}
			if p.DurationMS > 0 && p.BandwidthKbps > 0 {
				total++
			}
		}
		if total == 0 {
			t.Fatal("a trace that never moves was let through")
		}
	})
}

func FuzzParseMovie(f *testing.F) {
	f.Add([]byte(`{"segment_duration_ms":2000,"bitrates_kbps":[100,200],"segment_sizes_bits":[[1000,2000],[1100,2100]]}`))
	f.Add([]byte(`{"segment_duration_ms":2000,"bitrates_kbps":[200,100],"segment_sizes_bits":[[1,2]]}`))
	f.Add([]byte(`{"segment_duration_ms":2000,"bitrates_kbps":[1],"segment_sizes_bits":[[]]}`))
	f.Add([]byte(`{"segment_sizes_bits":[{"a":["b"]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParseMovie(bytes.NewReader(b), "m.json")
		if err != nil {
			if services.ProblemOf(err).Remedy == "" {
				t.Errorf("%q has no remedy", err)
			}
			return
		}
		if !(l.SegmentMS > 0) || len(l.Kbps) == 0 || len(l.Bits) == 0 {
			t.Fatalf("%+v was let through", l)
		}
		for _, row := range l.Bits {
			if len(row) != len(l.Kbps) {
				t.Fatal("a row of another length was let through")
			}
		}
	})
}
