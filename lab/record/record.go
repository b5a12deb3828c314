// Package record keeps what was measured in a lab: each evacuation, return, load,
// experiment and loss of a region leaves one record, a JSON file in the lab's
// state, that can be read again, drawn and compared with an earlier one.
//
// The format is open: a producer names its figures, series and phases as it
// likes, and every reader shows them by these names. It only stores and draws;
// it judges nothing, and measures nothing.
package record

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/flix-lab/flix/services"
)

// Record of one thing that was measured.
type Record struct {
	ID string `json:"id"`
	// Kind is what it was: failover, failback, load, experiment, region loss, or
	// another producer's.
	Kind string `json:"kind"`
	// Subject is what it was about, e.g. a region; it may be empty.
	Subject string    `json:"subject,omitempty"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	// State says how it ended, in one word, e.g. "done" or "failed".
	State string `json:"state"`
	// Summary is a sentence.
	Summary string   `json:"summary"`
	Figures []Figure `json:"figures"`
	Series  []Series `json:"series"`
	Phases  []Phase  `json:"phases"`
	Marks   []Mark   `json:"marks"`
	Notes   []string `json:"notes"`
	// Data is the producer's own report, whatever its shape.
	Data json.RawMessage `json:"data,omitempty"`
}

// Figure is a number that stands for the whole.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	// Unit as it is printed: "ms", "kbit/s", "bytes", "1/s"; "" for counts and
	// ratios.
	Unit string `json:"unit,omitempty"`
	// Better says which way is better, for comparisons: "less", "more", or
	// neither.
	Better string `json:"better,omitempty"`
}

// Series is a value over time.
type Series struct {
	Name   string  `json:"name"`
	Unit   string  `json:"unit,omitempty"`
	Points []Point `json:"points"`
}

// Point is a value at a time, in seconds since the record's start.
type Point struct {
	At    float64 `json:"at"`
	Value float64 `json:"value"`
}

// Phase is a part of the time, in seconds since the start.
type Phase struct {
	Name string  `json:"name"`
	From float64 `json:"from"`
	To   float64 `json:"to"`
	Text string  `json:"text,omitempty"`
}

// Mark is something that happened at a time.
type Mark struct {
	At   float64 `json:"at"`
	Text string  `json:"text"`
	// Bad marks are drawn as such.
	Bad bool `json:"bad,omitempty"`
}

// Figure returns a figure by name.
func (r Record) Figure(name string) (Figure, bool) {
	i := slices.IndexFunc(r.Figures, func(f Figure) bool { return f.Name == name })
	if i < 0 {
		return Figure{}, false
	}
	return r.Figures[i], true
}

// Seconds is how long it took.
func (r Record) Seconds() float64 { return max(r.Ended.Sub(r.Started).Seconds(), 0) }

// maxRecords bounds what a lab keeps: the oldest go.
const maxRecords = 200

// maxFile bounds a record's file, bytes.
const maxFile = 16 << 20

var idRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Store is a folder of records.
type Store struct{ dir string }

// In returns the store of a lab's folder. It is made when first needed.
func In(labDir string) Store { return Store{filepath.Join(labDir, "records")} }

func (s Store) path(id string) string { return filepath.Join(s.dir, id+".json") }

// Keep writes a record as a whole, in the place of one with the same id.
func (s Store) Keep(r Record) error {
	if !idRule.MatchString(r.ID) {
		return services.Errorf(services.Internal, "record: %q is not an id", r.ID)
	}
	if r.Kind == "" || r.Started.IsZero() {
		return services.Errorf(services.Internal, "record %s: kind and start are needed", r.ID)
	}
	r.fill()
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("record %s: %w", r.ID, err)
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("record %s: %w", r.ID, err)
	}
	tmp, err := os.CreateTemp(s.dir, ".new-*")
	if err != nil {
		return fmt.Errorf("record %s: %w", r.ID, err)
	}
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), s.path(r.ID))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("record %s: %w", r.ID, err), os.Remove(tmp.Name()))
	}
	return s.trim()
}

// fill makes lists lists in JSON.
func (r *Record) fill() {
	if r.Figures == nil {
		r.Figures = []Figure{}
	}
	if r.Series == nil {
		r.Series = []Series{}
	}
	if r.Phases == nil {
		r.Phases = []Phase{}
	}
	if r.Marks == nil {
		r.Marks = []Mark{}
	}
	if r.Notes == nil {
		r.Notes = []string{}
	}
}

// Parse reads a record from JSON.
func Parse(b []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return Record{}, services.Errorf(services.Invalid, "record: %v", err)
	}
	if !idRule.MatchString(r.ID) || r.Kind == "" || r.Started.IsZero() {
		return Record{}, services.Errorf(services.Invalid, "record: id, kind and started are needed")
	}
	r.fill()
	return r, nil
}

func (s Store) read(id string) (Record, error) {
	f, err := os.Open(s.path(id))
	if err != nil {
		return Record{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Record{}, err
	}
	if info.Size() > maxFile {
		return Record{}, services.Errorf(services.Exhausted, "record %s has %d bytes", id, info.Size())
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return Record{}, err
	}
	r, err := Parse(b)
	return r, services.Wrap("record "+id, err)
}

// List returns every record that can be read, oldest first; one that is damaged
// is named by its error instead, beside the others.
func (s Store) List() ([]Record, error) {
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	var (
		out  []Record
		errs []error
	)
	for _, id := range ids {
		r, err := s.read(id)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, r)
	}
	slices.SortStableFunc(out, func(a, b Record) int { return a.Started.Compare(b.Started) })
	return out, errors.Join(errs...)
}

func (s Store) ids() ([]string, error) {
	ds, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	var out []string
	for _, d := range ds {
		if id, ok := strings.CutSuffix(d.Name(), ".json"); ok && idRule.MatchString(id) {
			out = append(out, id)
		}
	}
	return out, nil
}

// Get returns the record of an id, or of the only id that begins so. "" is the
// newest.
func (s Store) Get(id string) (Record, error) {
	if id == "" {
		all, err := s.List()
		if len(all) == 0 {
			return Record{}, errors.Join(services.Errorf(services.NotFound, "nothing was recorded yet").WithRemedy("flix load, flix failover and flix chaos experiment run leave a record each"), err)
		}
		return all[len(all)-1], nil
	}
	ids, err := s.ids()
	if err != nil {
		return Record{}, err
	}
	var match []string
	for _, x := range ids {
		if x == id {
			return s.read(x)
		}
		if strings.HasPrefix(x, id) {
			match = append(match, x)
		}
	}
	switch len(match) {
	case 1:
		return s.read(match[0])
	case 0:
		return Record{}, services.Errorf(services.NotFound, "there is no record %q", id).WithRemedy("flix report ls lists them")
	}
	return Record{}, services.Errorf(services.Invalid, "%d records begin with %q", len(match), id).WithRemedy("write more of the id: %s", strings.Join(match[:min(len(match), 5)], ", "))
}

// trim drops the oldest files beyond what is kept.
func (s Store) trim() error {
	ids, err := s.ids()
	if err != nil || len(ids) <= maxRecords {
		return err
	}
	type aged struct {
		id string
		at time.Time
	}
	var all []aged
	for _, id := range ids {
		if info, err := os.Stat(s.path(id)); err == nil {
			all = append(all, aged{id, info.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b aged) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.id, b.id)) })
	var errs []error
	for _, a := range all[:max(len(all)-maxRecords, 0)] {
		if err := os.Remove(s.path(a.id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
