package traffic

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/lab/player"
)

// maxErrors bounds the different errors that a fleet remembers.
const maxErrors = 8

// counts sums up what the players of a fleet felt. It is every play's gauge.
type counts struct {
	active, ended, failed, stalledPlays, left atomic.Int64
	shown, rebuffers, bytes                   atomic.Int64
	playing, stalled                          atomic.Int64 // ns

	mu     sync.Mutex // guards what follows
	delays histogram
	recent histogram // of the second under way
	// kbps is the sum of bit rate × seconds, over seconds.
	kbps, seconds float64
	errors        []Failure
	lastShown     time.Time
}

// Failure is an error that plays ended with.
type Failure struct {
	Text  string `json:"text"`
	Plays int    `json:"plays"`
}

var _ player.Gauge = (*counts)(nil)

// Shown implements player.Gauge.
func (c *counts) Shown(delay time.Duration) {
	c.shown.Add(1)
	ms := float64(delay) / float64(time.Millisecond)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delays.add(ms)
	c.recent.add(ms)
	c.lastShown = time.Now()
}

// Received implements player.Gauge.
func (c *counts) Received(n int) { c.bytes.Add(int64(n)) }

// Passed implements player.Gauge.
func (c *counts) Passed(playing, stalled time.Duration, rebuffers int) {
	c.playing.Add(int64(playing))
	c.stalled.Add(int64(stalled))
	c.rebuffers.Add(int64(rebuffers))
}

// over books a play's end. One that was cut off before it began counts as none.
func (c *counts) over(r player.Report, err error, cut bool) (failed bool) {
	began := r.Segments > 0 || r.PlayDelayMS > 0
	switch {
	case !began && (cut || r.Left):
		return false
	case err != nil && !cut, err == nil && !began:
		c.failed.Add(1)
		c.remember(err, r.Errors)
		failed = true
	}
	c.ended.Add(1)
	if r.Rebuffers > 0 {
		c.stalledPlays.Add(1)
	}
	if r.Left {
		c.left.Add(1)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kbps += r.MeanKbps * r.SecondsPlayed
	c.seconds += r.SecondsPlayed
	return failed
}

// remember counts an error, with the last thing that went wrong before it.
func (c *counts) remember(err error, before []string) {
	text := "it played nothing"
	if err != nil {
		text = err.Error()
	}
	if n := len(before); n > 0 {
		text += " (after: " + before[n-1] + ")"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.errors {
		if c.errors[i].Text == text {
			c.errors[i].Plays++
			return
		}
	}
	if len(c.errors) < maxErrors {
		c.errors = append(c.errors, Failure{text, 1})
		return
	}
	c.errors[maxErrors-1].Text = "others"
	c.errors[maxErrors-1].Plays++
}

func ratio(stalled, playing int64) float64 {
	if stalled+playing <= 0 {
		return 0
	}
	return float64(stalled) / float64(stalled+playing)
}
