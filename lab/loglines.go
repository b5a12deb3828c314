package lab

import (
	"bufio"
	"bytes"
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// logLines is a stream of log lines in their order of time, or nearly so.
type logLines interface {
	// next returns the next line, io.EOF when there is none now.
	next() (LogLine, error)
	Close() error
}

// fileLines reads the whole lines of a file from an offset on.
type fileLines struct {
	f *os.File
	r *bufio.Reader
	// offset is where the next line begins.
	offset int64
	parse  func([]byte) (LogLine, bool)
}

// openLines opens a log file at an offset. At the offset 0 it goes to the first
// line that may be as young as since, without reading what is before.
func openLines(path string, offset int64, since time.Time, parse func([]byte) (LogLine, bool)) (*fileLines, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("logs: %w", err)
	}
	l := &fileLines{f: f, offset: offset, parse: parse}
	if offset == 0 && !since.IsZero() {
		l.offset, err = seekTime(f, since.Add(-unordered), parse)
	}
	if err == nil {
		_, err = f.Seek(l.offset, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("logs: %w", err), f.Close())
	}
	l.r = bufio.NewReader(f)
	return l, nil
}

func (l *fileLines) next() (LogLine, error) {
	for {
		b, err := l.r.ReadBytes('\n')
		if err != nil { // io.EOF: the rest is not a whole line yet
			return LogLine{}, err
		}
		l.offset += int64(len(b))
		if line, ok := l.parse(bytes.TrimSpace(b)); ok {
			return line, nil
		}
	}
}

// Close closes the file.
func (l *fileLines) Close() error { return l.f.Close() }

// unordered is by how much a line may be older than the one before it: several
// goroutines write to one log.
const unordered = time.Second

// seekBlock is how much of a file is read rather than searched, in bytes.
const seekBlock = 64 << 10

// seekTime finds, by halving the file, the beginning of a line before which
// everything is older than at.
func seekTime(f *os.File, at time.Time, parse func([]byte) (LogLine, bool)) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	lo, hi := int64(0), st.Size()
	for hi-lo > seekBlock {
		mid := lo + (hi-lo)/2
		offset, line, err := lineAfter(f, mid, hi, parse)
		switch {
		case errors.Is(err, io.EOF) || err == nil && !line.Time.Before(at):
			hi = mid
		case err != nil:
			return 0, err
		default:
			lo = offset
		}
	}
	return lo, nil
}

// lineAfter returns the first whole line that begins after an offset and before
// end, and where it begins.
func lineAfter(f *os.File, offset, end int64, parse func([]byte) (LogLine, bool)) (int64, LogLine, error) {
	r := bufio.NewReader(io.NewSectionReader(f, offset, end-offset))
	b, err := r.ReadBytes('\n') // the rest of the line in which the offset lies
	for {
		if err != nil {
			return 0, LogLine{}, err
		}
		offset += int64(len(b))
		if b, err = r.ReadBytes('\n'); err != nil {
			return 0, LogLine{}, err
		}
		if line, ok := parse(bytes.TrimSpace(b)); ok {
			return offset, line, nil
		}
	}
}

// lookAhead is how many lines of each stream wait to be put in order.
const lookAhead = 16

// merge calls f for the lines of several streams in order of time, holding no
// more than lookAhead lines of each. It ends when every stream is at its end.
func merge(streams []logLines, f func(LogLine) error) error {
	var waiting lineHeap
	pull := func(s int) error {
		l, err := streams[s].next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("logs: %w", err)
		}
		waiting.count++
		heap.Push(&waiting, waitingLine{l, s, waiting.count})
		return nil
	}
	for s := range streams {
		for range lookAhead {
			if err := pull(s); err != nil {
				return err
			}
		}
	}
	for waiting.Len() > 0 {
		l := heap.Pop(&waiting).(waitingLine)
		if err := f(l.LogLine); err != nil {
			return err
		}
		if err := pull(l.stream); err != nil {
			return err
		}
	}
	return nil
}

type waitingLine struct {
	LogLine
	stream int
	n      int // of reading: lines of one time stay in order
}

// lineHeap implements heap.Interface.
type lineHeap struct {
	lines []waitingLine
	count int
}

func (h *lineHeap) Len() int { return len(h.lines) }

func (h *lineHeap) Less(i, j int) bool {
	a, b := h.lines[i], h.lines[j]
	return cmp.Or(a.Time.Compare(b.Time), a.n-b.n) < 0
}

func (h *lineHeap) Swap(i, j int) { h.lines[i], h.lines[j] = h.lines[j], h.lines[i] }
func (h *lineHeap) Push(x any)    { h.lines = append(h.lines, x.(waitingLine)) }

func (h *lineHeap) Pop() any {
	last := len(h.lines) - 1
	l := h.lines[last]
	h.lines = h.lines[:last]
	return l
}

// logFile is a file that lines are appended to.
type logFile struct {
	path   string
	parse  func([]byte) (LogLine, bool)
	offset int64
}

// fresh opens what was appended since it was last read; nil if nothing was.
func (f *logFile) fresh(since time.Time) (*fileLines, error) {
	st, err := os.Stat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.offset = 0
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("logs: %w", err)
	case st.Size() < f.offset: // another file has its name now
		f.offset = 0
	}
	if st.Size() == f.offset {
		return nil, nil
	}
	return openLines(f.path, f.offset, since, f.parse)
}
