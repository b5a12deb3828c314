package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// keepEvents bounds the events that stay in memory for followers.
const keepEvents = 1024

// Log is the lab's event log: a file of JSON lines and the followers of it.
// Safe for concurrent use.
type Log struct {
	mu      sync.Mutex
	f       *os.File
	seq     uint64
	recent  []Event
	changed chan struct{}
}

// OpenLog opens the log at path for appending.
func OpenLog(path string) (*Log, error) {
	past, err := ReadLog(path)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("event log: %w", err)
	}
	if err := endLine(f); err != nil {
		return nil, errors.Join(fmt.Errorf("event log: %w", err), f.Close())
	}
	l := &Log{f: f, changed: make(chan struct{})}
	if n := len(past); n > 0 {
		l.seq = past[n-1].Seq
		l.recent = slices.Clone(past[max(0, n-keepEvents):])
	}
	return l, nil
}

// ReadLog reads a log without opening it for writing; a line torn by a crash
// is skipped.
func ReadLog(path string) ([]Event, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("event log: %w", err)
	}
	var out []Event
	for line := range bytes.Lines(b) {
		var e Event
		if json.Unmarshal(line, &e) == nil {
			out = append(out, e)
		}
	}
	return out, nil
}

// endLine ends a line that a crash tore, so that the next event has its own.
func endLine(f *os.File) error {
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, st.Size()-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = f.Write([]byte{'\n'})
	return err
}

// maxText and maxData bound what one event carries, in bytes.
const (
	maxText = 4 << 10
	maxData = 16 << 10
)

// bounded cuts an event to what the log takes.
func bounded(text string, data map[string]any) (string, map[string]any) {
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	if b, err := json.Marshal(data); err != nil || len(b) > maxData {
		data = nil
	}
	return text, data
}

// Add appends an event and wakes the followers.
func (l *Log) Add(kind, subject, text string, data map[string]any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text, data = bounded(text, data)
	l.seq++
	e := Event{Seq: l.seq, At: time.Now().UTC(), Kind: kind, Subject: subject, Text: text, Data: data}
	if b, err := json.Marshal(e); err == nil {
		_, _ = l.f.Write(append(b, '\n')) // a full disk must not stop the lab; memory still has it
	}
	if len(l.recent) >= keepEvents {
		l.recent = append(l.recent[:0], l.recent[len(l.recent)-keepEvents/2:]...)
	}
	l.recent = append(l.recent, e)
	close(l.changed)
	l.changed = make(chan struct{})
}

// Since returns the kept events after a sequence number and a channel that is
// closed when there are more.
func (l *Log) Since(seq uint64) ([]Event, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := len(l.recent)
	for i > 0 && l.recent[i-1].Seq > seq {
		i--
	}
	return append([]Event(nil), l.recent[i:]...), l.changed
}

// Follow calls f for every event after seq until ctx ends or f fails.
func (l *Log) Follow(ctx context.Context, seq uint64, f func(Event) error) error {
	for {
		es, more := l.Since(seq)
		for _, e := range es {
			if err := f(e); err != nil {
				return err
			}
			seq = e.Seq
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close closes the file.
func (l *Log) Close() error { return l.f.Close() }
