package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
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
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("event log: %w", err)
	}
	l := &Log{f: f, changed: make(chan struct{})}
	if n := len(past); n > 0 {
		l.seq = past[n-1].Seq
		l.recent = past[max(0, n-keepEvents):]
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
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var e Event
		if json.Unmarshal(sc.Bytes(), &e) == nil {
			out = append(out, e)
		}
	}
	return out, sc.Err()
}

// Add appends an event and wakes the followers.
func (l *Log) Add(kind, subject, text string, data map[string]any) {
	l.mu.Lock()
	defer l.mu.Unlock()
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
