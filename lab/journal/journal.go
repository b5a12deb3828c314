// Package journal is the write-ahead record of every resource a lab makes: a
// line is on disk before the resource exists, so that whatever a crash leaves
// behind can be found and reaped. It never makes or removes a resource itself.
package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Kind of a resource.
type Kind string

// The kinds.
const (
	Slot    Kind = "slot"    // a range of ports; data: {"region"}
	Port    Kind = "port"    // one port of an instance; id: "instance port-name"
	Process Kind = "process" // a process; data: pid, start time, executable
	Socket  Kind = "socket"  // a unix socket; id: its path
	Seed    Kind = "seed"    // a region's stores hold the catalogue
	Title   Kind = "title"   // an added title

	Network   Kind = "network"   // a network of the container engine
	Container Kind = "container" // a container; id: its name
	Volume    Kind = "volume"    // a volume; id: its name
	Image     Kind = "image"     // an image the lab made; id: its tag
	Address   Kind = "address"   // an address, a block of them, or the lab's subnet
)

// Entry is one live resource.
type Entry struct {
	Kind Kind            `json:"kind"`
	ID   string          `json:"id"`
	Data json.RawMessage `json:"data,omitempty"`
	At   time.Time       `json:"at"`
}

type line struct {
	Op string `json:"op"` // "put" or "del"
	Entry
}

// Journal is an open journal. Safe for concurrent use by one process; the
// daemon's lock keeps others out.
type Journal struct {
	mu   sync.Mutex
	f    *os.File
	live map[string]Entry
}

func key(k Kind, id string) string { return string(k) + "\x00" + id }

// Open reads the journal at path, dropping a line torn by a crash, compacts it
// and leaves it open for appending. A file that is not there is an empty journal.
func Open(path string) (*Journal, error) {
	live, err := Read(path)
	if err != nil {
		return nil, err
	}
	j := &Journal{live: make(map[string]Entry, len(live))}
	var buf bytes.Buffer
	for _, e := range live {
		j.live[key(e.Kind, e.ID)] = e
		if err := json.NewEncoder(&buf).Encode(line{"put", e}); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, buf.Bytes(), 0o600); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j.f, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return j, nil
}

// Read returns the live entries of a journal without opening it for writing.
func Read(path string) ([]Entry, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return parse(b)
}

func parse(b []byte) ([]Entry, error) {
	live := map[string]Entry{}
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, 1<<20)
	for n := 1; sc.Scan(); n++ {
		var l line
		if err := json.Unmarshal(sc.Bytes(), &l); err != nil {
			if bytes.HasSuffix(b, sc.Bytes()) { // the last line, torn by a crash
				break
			}
			return nil, fmt.Errorf("journal: line %d is damaged: %w", n, err)
		}
		switch l.Op {
		case "put":
			live[key(l.Kind, l.ID)] = l.Entry
		case "del":
			delete(live, key(l.Kind, l.ID))
		}
	}
	out := make([]Entry, 0, len(live))
	for _, e := range live {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(key(a.Kind, a.ID), key(b.Kind, b.ID)) })
	return out, sc.Err()
}

// Put records a resource that is about to be made, or changes its data. It
// returns once the line is written, so a crash of any process of the lab
// cannot lose it.
func (j *Journal) Put(k Kind, id string, data any) error {
	raw, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("journal: put %s %s: %w", k, id, err)
	}
	return j.append(line{"put", Entry{Kind: k, ID: id, Data: raw, At: time.Now().UTC()}})
}

// Delete records that a resource is gone.
func (j *Journal) Delete(k Kind, id string) error {
	if _, ok := j.Get(k, id); !ok {
		return nil
	}
	return j.append(line{"del", Entry{Kind: k, ID: id, At: time.Now().UTC()}})
}

func (j *Journal) append(l line) error {
	b, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f == nil {
		return fmt.Errorf("journal: %s %s %s: it is open for reading only", l.Op, l.Kind, l.ID)
	}
	if _, err := j.f.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("journal: %s %s %s: %w", l.Op, l.Kind, l.ID, err)
	}
	if l.Op == "put" {
		j.live[key(l.Kind, l.ID)] = l.Entry
	} else {
		delete(j.live, key(l.Kind, l.ID))
	}
	return nil
}

// Get returns a live entry.
func (j *Journal) Get(k Kind, id string) (Entry, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e, ok := j.live[key(k, id)]
	return e, ok
}

// List returns the live entries of a kind, by id.
func (j *Journal) List(k Kind) []Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []Entry
	for _, e := range j.live {
		if e.Kind == k {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Close closes the file; the journal stays on disk.
func (j *Journal) Close() error {
	if j.f == nil {
		return nil
	}
	return j.f.Close()
}

// Path of the journal in a lab's directory.
func Path(dir string) string { return filepath.Join(dir, "journal.jsonl") }

// OpenReadOnly reads the journal at path for looking only: Put and Delete fail.
func OpenReadOnly(path string) (*Journal, error) {
	live, err := Read(path)
	if err != nil {
		return nil, err
	}
	j := &Journal{live: make(map[string]Entry, len(live))}
	for _, e := range live {
		j.live[key(e.Kind, e.ID)] = e
	}
	return j, nil
}
