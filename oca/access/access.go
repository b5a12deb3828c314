// Package access writes an appliance's access log: a line of JSON for each
// answer, with what the client said of its playback (CMCD). It never holds an
// answer up: a log whose reader is too slow loses lines, and says how many.
package access

import (
	"encoding/json"
	"io"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/oca/cmcd"
	"github.com/flix-lab/flix/oca/wire"
)

// maxLines bounds the lines that wait to be written.
const maxLines = 4096

// Line is one answer.
type Line struct {
	Time time.Time `json:"time"`
	// Appliance, Session and Title join the line with a steering decision.
	Appliance string `json:"appliance,omitempty"`
	Session   string `json:"session,omitempty"`
	Title     string `json:"title,omitempty"`
	Client    string `json:"client"`
	Proto     string `json:"proto"`
	Method    string `json:"method"`
	// Path is without its token: a log must not let its reader replay a URL.
	Path   string `json:"path"`
	Range  string `json:"range,omitempty"`
	Status int    `json:"status"`
	// Bytes of the body that were sent.
	Bytes  int64   `json:"bytes"`
	TookMS float64 `json:"took_ms"`
	Agent  string  `json:"user_agent,omitempty"`
	// CMCD by key; BadCMCD is how many of the client's pairs were malformed.
	CMCD    map[string]any `json:"cmcd,omitempty"`
	BadCMCD int            `json:"cmcd_bad,omitempty"`
	Error   string         `json:"error,omitempty"`
	// Lost is how many lines before this one were not written.
	Lost uint64 `json:"lost_lines,omitempty"`
}

// Log is one log. Note is safe for concurrent use.
type Log struct {
	w     io.Writer
	lines chan []byte
	end   chan struct{}
	lost  atomic.Uint64
}

// New makes a log that writes to w.
func New(w io.Writer) *Log {
	return &Log{w: w, lines: make(chan []byte, maxLines), end: make(chan struct{})}
}

// To sets where a log writes to, before Run.
func (l *Log) To(w io.Writer) { l.w = w }

// Run writes until Close, and then what waits still.
func (l *Log) Run() {
	for {
		select {
		case b := <-l.lines:
			l.write(b)
		case <-l.end:
			for {
				select {
				case b := <-l.lines:
					l.write(b)
				default:
					return
				}
			}
		}
	}
}

func (l *Log) write(b []byte) {
	if _, err := l.w.Write(b); err != nil {
		l.lost.Add(1)
	}
}

// Close ends Run.
func (l *Log) Close() { close(l.end) }

// CMCD reads what a request says of the playback; ok is whether it says
// anything.
func CMCD(r *wire.Request) (d cmcd.Data, ok bool) {
	if d, ok = cmcd.FromQuery(r.Query); ok {
		return d, true
	}
	return cmcd.FromHeaders(r.Get)
}

// Fill fills in what request and answer tell. The path is the caller's.
func (e *Line) Fill(r *wire.Request, a *wire.Answer, d cmcd.Data, start time.Time) {
	e.Time, e.Client, e.Proto, e.Method, e.Range = time.Now().UTC(), r.Client.Addr().String(), proto(r), r.Method, r.Get("Range")
	e.Status, e.Bytes, e.Agent, e.CMCD, e.BadCMCD = a.Status, a.Sent, r.Get("User-Agent"), d.Values, d.Bad
	if !start.IsZero() {
		e.TookMS = float64(time.Since(start).Microseconds()) / 1000
	}
	if a.Err != nil {
		e.Error = a.Err.Error()
	}
}

// Note queues a line.
func (l *Log) Note(e Line) {
	e.Lost = l.lost.Swap(0)
	b, err := json.Marshal(e)
	if err != nil { // a line holds only strings, numbers and booleans
		panic("access: " + err.Error())
	}
	select {
	case l.lines <- append(b, '\n'):
	default:
		l.lost.Add(e.Lost + 1)
	}
}

func proto(r *wire.Request) string {
	switch {
	case r.Major == 2:
		return "HTTP/2"
	case r.Minor == 0:
		return "HTTP/1.0"
	}
	return "HTTP/1.1"
}
