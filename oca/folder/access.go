package folder

import (
	"encoding/json"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/oca/cmcd"
	"github.com/flix-lab/flix/oca/wire"
)

// maxLines bounds the lines that wait to be written. A log whose reader is too
// slow loses lines, and says how many; it holds up no answer.
const maxLines = 4096

// accessLog writes a line of JSON for each answer. note is safe for concurrent
// use.
type accessLog struct {
	w     io.Writer
	lines chan []byte
	end   chan struct{}
	lost  atomic.Uint64
}

// line is one answer in the access log.
type line struct {
	Time   time.Time      `json:"time"`
	Client string         `json:"client"`
	Proto  string         `json:"proto"`
	Method string         `json:"method"`
	Path   string         `json:"path"`
	Range  string         `json:"range,omitempty"`
	Status int            `json:"status"`
	Bytes  int64          `json:"bytes"`
	TookMS float64        `json:"took_ms"`
	Agent  string         `json:"user_agent,omitempty"`
	CMCD   map[string]any `json:"cmcd,omitempty"`
	// BadCMCD is how many of the client's pairs were malformed.
	BadCMCD int    `json:"cmcd_bad,omitempty"`
	Error   string `json:"error,omitempty"`
	// Lost is how many lines before this one were not written.
	Lost uint64 `json:"lost_lines,omitempty"`
}

func newAccessLog(w io.Writer) *accessLog {
	return &accessLog{w: w, lines: make(chan []byte, maxLines), end: make(chan struct{})}
}

// run writes until close.
func (l *accessLog) run() error {
	for {
		select {
		case b := <-l.lines:
			if _, err := l.w.Write(b); err != nil {
				l.lost.Add(1)
			}
		case <-l.end:
			for {
				select {
				case b := <-l.lines:
					if _, err := l.w.Write(b); err != nil {
						return err
					}
				default:
					return nil
				}
			}
		}
	}
}

func (l *accessLog) close() { close(l.end) }

// note queues the line of an answer; only those with CMCD if asked so.
func (l *accessLog) note(r *wire.Request, a *wire.Answer, onlyCMCD bool) {
	data, ok := cmcd.FromQuery(r.Query)
	if !ok {
		data, ok = cmcd.FromHeaders(r.Get)
	}
	if onlyCMCD && !ok {
		return
	}
	start, _ := a.State.(time.Time)
	e := line{
		Time: time.Now().UTC(), Client: r.Client.Addr().String(), Proto: proto(r), Method: r.Method, Path: withoutToken(r.Path), Range: r.Get("Range"),
		Status: a.Status, Bytes: a.Sent, Agent: r.Get("User-Agent"), CMCD: data.Values, BadCMCD: data.Bad, Lost: l.lost.Swap(0),
	}
	if !start.IsZero() {
		e.TookMS = float64(time.Since(start).Microseconds()) / 1000
	}
	if a.Err != nil {
		e.Error = a.Err.Error()
	}
	b, err := json.Marshal(e)
	if err != nil { // line holds only strings, numbers and booleans
		panic("folder: access line: " + err.Error())
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

// withoutToken leaves a signature out: a log must not let its reader replay a
// URL.
func withoutToken(path string) string {
	tok, rest, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if ok && len(tok) > 60 && strings.Count(tok, ".") == 1 {
		return "/-/" + rest
	}
	return path
}
