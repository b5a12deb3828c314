package sim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/flix-lab/flix/lab/player/abr"
	"github.com/flix-lab/flix/services"
)

// maxFile bounds a file, bytes.
const maxFile = 64 << 20

// Period of a network trace.
type Period struct {
	// DurationMS, BandwidthKbps and LatencyMS are finite and not below 0.
	DurationMS, BandwidthKbps, LatencyMS float64
}

// rawPeriod is a Period in a file; a pointer tells what is missing.
type rawPeriod struct {
	Duration  *float64 `json:"duration_ms"`
	Bandwidth *float64 `json:"bandwidth_kbps"`
	Latency   *float64 `json:"latency_ms"`
}

// ParseNetwork reads a network trace: a JSON array of {duration_ms,
// bandwidth_kbps, latency_ms}. Some of its time has some bandwidth. An error
// names file, index, field, value and remedy; file only appears in it.
func ParseNetwork(r io.Reader, file string) ([]Period, error) {
	b, err := read(r, file)
	if err != nil {
		return nil, err
	}
	var raw []rawPeriod
	if err := list(b, file, "network", "a JSON array of {duration_ms, bandwidth_kbps, latency_ms}", &raw); err != nil {
		return nil, err
	}
	if len(raw) == 0 {
		return nil, wrong(file, "network", "there is no period", "write at least one {duration_ms, bandwidth_kbps, latency_ms}")
	}
	out := make([]Period, len(raw))
	moves := false
	for i, p := range raw {
		at := fmt.Sprintf("network[%d]", i)
		for _, f := range []struct {
			name string
			from *float64
			to   *float64
			unit string
		}{
			{"duration_ms", p.Duration, &out[i].DurationMS, "milliseconds"},
			{"bandwidth_kbps", p.Bandwidth, &out[i].BandwidthKbps, "kbit/s"},
			{"latency_ms", p.Latency, &out[i].LatencyMS, "milliseconds"},
		} {
			switch {
			case f.from == nil:
				return nil, wrong(file, at+"."+f.name, "it is missing", "write a number of "+f.unit)
			case *f.from < 0:
				return nil, wrong(file, at+"."+f.name, fmt.Sprintf("%g is below 0", *f.from), "write a number of "+f.unit+", 0 or more")
			}
			*f.to = *f.from
		}
		moves = moves || out[i].DurationMS > 0 && out[i].BandwidthKbps > 0
	}
	if !moves {
		return nil, wrong(file, "network", "no period has both a duration and a bandwidth above 0: nothing would ever arrive", "give some time some bandwidth; the trace loops")
	}
	return out, nil
}

type rawMovie struct {
	Segment *float64     `json:"segment_duration_ms"`
	Kbps    []*float64   `json:"bitrates_kbps"`
	Bits    [][]*float64 `json:"segment_sizes_bits"`
}

// ParseMovie reads a movie: a JSON object of segment_duration_ms,
// bitrates_kbps[] ascending, and segment_sizes_bits[segment][rung]. An error
// names file, index, field, value and remedy; file only appears in it.
func ParseMovie(r io.Reader, file string) (abr.Ladder, error) {
	b, err := read(r, file)
	if err != nil {
		return abr.Ladder{}, err
	}
	var raw rawMovie
	if err := list(b, file, "movie", "a JSON object of segment_duration_ms, bitrates_kbps and segment_sizes_bits", &raw); err != nil {
		return abr.Ladder{}, err
	}
	l := abr.Ladder{}
	if l.SegmentMS, err = above(raw.Segment, file, "segment_duration_ms", "the length of a segment in milliseconds"); err != nil {
		return abr.Ladder{}, err
	}
	if len(raw.Kbps) == 0 {
		return abr.Ladder{}, wrong(file, "bitrates_kbps", "there is no bit rate", "list the rungs' bit rates, lowest first")
	}
	for i, k := range raw.Kbps {
		at := fmt.Sprintf("bitrates_kbps[%d]", i)
		kbps, err := above(k, file, at, "a bit rate in kbit/s")
		if err != nil {
			return abr.Ladder{}, err
		}
		if i > 0 && kbps <= l.Kbps[i-1] {
			return abr.Ladder{}, wrong(file, at, fmt.Sprintf("%g is not above %g before it", kbps, l.Kbps[i-1]), "list each bit rate once, lowest first, and the sizes in the same order")
		}
		l.Kbps = append(l.Kbps, kbps)
	}
	if len(raw.Bits) == 0 {
		return abr.Ladder{}, wrong(file, "segment_sizes_bits", "there is no segment", "list each segment's sizes in bits, one per bit rate")
	}
	for i, row := range raw.Bits {
		at := fmt.Sprintf("segment_sizes_bits[%d]", i)
		if len(row) != len(l.Kbps) {
			return abr.Ladder{}, wrong(file, at, fmt.Sprintf("it has %d sizes for %d bit rates", len(row), len(l.Kbps)), "list one size per bit rate")
		}
		sizes := make([]float64, len(row))
		for q, bits := range row {
			if sizes[q], err = above(bits, file, fmt.Sprintf("%s[%d]", at, q), "a size in bits"); err != nil {
				return abr.Ladder{}, err
			}
		}
		l.Bits = append(l.Bits, sizes)
	}
	return l, nil
}

// above takes a number above 0.
func above(v *float64, file, field, what string) (float64, error) {
	switch {
	case v == nil:
		return 0, wrong(file, field, "it is missing", "write "+what)
	case *v <= 0:
		return 0, wrong(file, field, fmt.Sprintf("%g is not above 0", *v), "write "+what)
	}
	return *v, nil
}

func read(r io.Reader, file string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, &services.Error{Op: file, Kind: services.Invalid, Msg: "it cannot be read", Err: err, Remedy: "name a file"}
	}
	if len(b) > maxFile {
		return nil, services.Errorf(services.Exhausted, "%s: it is larger than %d MiB", file, maxFile>>20).WithRemedy("cut it to the part that is played; a trace loops")
	}
	return b, nil
}

// list decodes one JSON value and says where it goes wrong.
func list(b []byte, file, name, shape string, into any) error {
	err := json.Unmarshal(b, into)
	if err == nil {
		return nil
	}
	remedy := "write " + shape
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		field := locate(b[:min(int(kind.Offset), len(b))], name)
		return wrong(file, field, fmt.Sprintf("line %d: it is %s where %s is wanted", line(b, kind.Offset), kind.Value, wanted(kind)), remedy)
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return wrong(file, name, fmt.Sprintf("line %d: %v", line(b, syntax.Offset), err), remedy)
	}
	return wrong(file, name, err.Error(), remedy)
}

func wanted(e *json.UnmarshalTypeError) string {
	switch e.Type.Kind().String() {
	case "float64":
		return fmt.Sprintf("a number of at most %.0e", math.MaxFloat64)
	case "slice":
		return "a list"
	}
	return "an object"
}

func line(b []byte, offset int64) int {
	return 1 + bytes.Count(b[:min(max(int(offset), 0), len(b))], []byte("\n"))
}

// locate names the place that JSON text breaks off at, e.g. network[3].latency_ms:
// the standard library's errors have no index.
func locate(text []byte, name string) string {
	type level struct {
		list  bool
		index int
		key   string
	}
	var stack []level
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	key := false // the next string in an object is a key
	for {
		t, err := d.Token()
		if err != nil {
			break
		}
		top := len(stack) - 1
		switch t {
		case json.Delim('['):
			stack = append(stack, level{list: true})
			continue
		case json.Delim('{'):
			stack, key = append(stack, level{}), true
			continue
		}
		if t == json.Delim(']') || t == json.Delim('}') {
			stack = stack[:top]
			top--
		} else if s, is := t.(string); is && top >= 0 && !stack[top].list && key {
			stack[top].key, key = s, false
			continue
		}
		if d.InputOffset() == int64(len(text)) {
			break // the value that is wrong, just read
		}
		if top >= 0 && stack[top].list {
			stack[top].index++
		} else {
			key = true
		}
	}
	out := name
	for i, l := range stack {
		switch {
		case l.list:
			out += fmt.Sprintf("[%d]", l.index)
		case l.key != "" && i == 0:
			out = l.key
		case l.key != "":
			out += "." + l.key
		}
	}
	return out
}

// wrong is the one form of these errors.
func wrong(file, field, what, remedy string) error {
	return services.Errorf(services.Invalid, "%s: %s: %s", file, field, what).WithRemedy("%s", remedy)
}
