package check

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/flix-lab/flix/services"
)

// Kind is a promise that a store makes when it acknowledges a write.
type Kind string

// The kinds. Local is acknowledged by its own region, and a loss of the region
// may take with it what replication had not carried yet. Global is acknowledged
// once a second region has it, and SQL once it is in a transaction that a
// replica elsewhere has: neither may be lost with a region.
const (
	Local  Kind = "local"
	Global Kind = "global"
	SQL    Kind = "sql"
)

// Kinds in the order in which they are reported.
var Kinds = []Kind{Local, Global, SQL}

// Entry is one acknowledged write.
type Entry struct {
	Kind  Kind   `json:"kind"`
	Key   string `json:"key"`
	Value string `json:"value"`
	// At is when the writer heard of it.
	At time.Time `json:"acknowledged_at"`
}

// Log is the file of acknowledged writes, one JSON object a line. Appends that
// come together share one sync of the disk.
type Log struct {
	f    *os.File
	in   chan appended
	done chan error
}

type appended struct {
	line []byte
	ok   chan error
}

// CreateLog makes a new log; services.Conflict if the file exists: a log is of
// one run.
func CreateLog(path string) (*Log, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, services.Errorf(services.Conflict, "log %s exists", path).WithRemedy("name a new file: a log is of one check")
	}
	if err != nil {
		return nil, &services.Error{Kind: services.Invalid, Msg: "the log cannot be made", Err: err, Remedy: "name a file in a folder that is there: --log FILE"}
	}
	l := &Log{f: f, in: make(chan appended, 256), done: make(chan error, 1)}
	go func() { l.done <- l.run() }()
	return l, nil
}

// Append returns when the entry is on disk. It must not be called after Close.
func (l *Log) Append(e Entry) error {
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	a := appended{append(b, '\n'), make(chan error, 1)}
	l.in <- a
	return <-a.ok
}

// run writes batches: all that is waiting goes to disk with one sync.
func (l *Log) run() error {
	for first := range l.in {
		batch := []appended{first}
		text := bytes.Clone(first.line)
		for more := true; more; {
			select {
			case a, ok := <-l.in:
				if more = ok; ok {
					batch, text = append(batch, a), append(text, a.line...)
				}
			default:
				more = false
			}
		}
		_, err := l.f.Write(text)
		if err == nil {
			err = l.f.Sync()
		}
		for _, a := range batch {
			a.ok <- err
		}
	}
	return l.f.Close()
}

// Close waits for what was appended.
func (l *Log) Close() error {
	close(l.in)
	return <-l.done
}
