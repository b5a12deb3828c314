package abr

import (
	"slices"
	"strings"

	"github.com/flix-lab/flix/services"
)

// Ladder is what an algorithm knows of a title before it plays.
type Ladder struct {
	// SegmentMS is the length of a segment.
	SegmentMS float64
	// Kbps of the rungs, strictly ascending; at least one.
	Kbps []float64
	// Bits of each segment in each rung, Bits[segment][rung]: as many segments
	// as the title has.
	Bits [][]float64
}

// View is what a player shows an algorithm when it asks.
type View struct {
	// Next is the index of the segment that comes behind what is buffered.
	Next int
	// BufferMS is the media ahead of the playback position.
	BufferMS float64
	// Buffered is the rung of each buffered segment, oldest first. The first
	// may be playing: PlayedMS of it are over. The algorithm only reads it.
	Buffered []int
	PlayedMS float64
	// ThroughputKbps and LatencyMS are the Estimator's: of the payload, and
	// until the first byte. Both are 0 while nothing is known.
	ThroughputKbps, LatencyMS float64
}

// Choice is an algorithm's answer.
type Choice struct {
	// Rung to take the next segment in.
	Rung int
	// WaitMS is how long to wait before asking for it.
	WaitMS float64
}

// Replacement is a buffered segment to fetch again.
type Replacement struct {
	// Buffered is the index into View.Buffered.
	Buffered int
	// Rung to take it in.
	Rung int
}

// Progress is a download under way.
type Progress struct {
	// Segment and Rung that are fetched. Replaces says that the segment is
	// buffered already in another rung.
	Segment, Rung int
	Replaces      bool
	// Bits in all, and received so far.
	Bits, Received float64
	// ElapsedMS since the request; FirstByteMS of them passed until the first
	// byte.
	ElapsedMS, FirstByteMS float64
}

// Transfer is a download that has ended: whole, or given up.
type Transfer struct {
	Progress
	// Abandoned says that the download was given up for the rung AbandonedTo
	// (-1: for nothing, when a replacement came too late).
	Abandoned   bool
	AbandonedTo int
}

// Algorithm is an adaptation algorithm for one play. It is used by one
// goroutine at a time.
//
// A player asks First for the first segment. Then, until all are fetched: it
// waits for room in the buffer and tells Waited how long that took, asks
// Replace and, if there is nothing to replace, Next; it calls Progressed while
// bytes come in, and Done at the end of every transfer. After one that was
// given up it asks Next again for the same segment.
type Algorithm interface {
	// First is the rung of the first segment.
	First() int
	// Next is the rung of segment v.Next.
	Next(v View) Choice
	// Replace returns a buffered segment that is better fetched again than
	// another appended. full says that the buffer has no room for another.
	Replace(v View, full bool) (Replacement, bool)
	// Progressed looks at a download under way: with v.BufferMS as of now. It
	// returns the rung to take instead, and true to give the download up.
	Progressed(v View, p Progress) (rung int, abandon bool)
	// Done takes a transfer that has ended; v is as of then, the segment
	// counted in if it was whole.
	Done(v View, t Transfer)
	// Waited takes how long the player waited for room in the buffer.
	Waited(ms float64)
	// Seek says that the buffer was emptied and segment comes next.
	Seek(segment int)
}

// Names of the algorithms, the default first.
func Names() []string {
	return []string{"default", "throughput", "bola", "bolae", "dynamic", "mpc"}
}

// New makes an algorithm by its name for a title and a buffer of at most
// bufferMS; variant is BOLA's, for those made of it. The ladder is read, never
// changed.
func New(name string, l Ladder, bufferMS float64, variant Variant) (Algorithm, error) {
	switch name {
	case "default":
		return NewPlanner(l, bufferMS), nil
	case "throughput":
		return NewThroughput(l), nil
	case "bola":
		return NewBola(l, bufferMS, variant), nil
	case "bolae":
		return NewBolaE(l, bufferMS, variant), nil
	case "dynamic":
		return NewDynamic(l, bufferMS, variant), nil
	case "mpc":
		return NewMPC(l, bufferMS), nil
	}
	return nil, services.Errorf(services.Invalid, "algorithm: there is no %q", name).WithRemedy("use one of %s", strings.Join(Names(), ", "))
}

// Known says whether an algorithm has a name.
func Known(name string) bool { return slices.Contains(Names(), name) }

// still is an Algorithm's part that many share: no replacement, nothing to
// learn from what happened.
type still struct{}

func (still) First() int                             { return 0 }
func (still) Replace(View, bool) (Replacement, bool) { return Replacement{}, false }
func (still) Progressed(View, Progress) (int, bool)  { return 0, false }
func (still) Done(View, Transfer)                    {}
func (still) Waited(float64)                         {}
func (still) Seek(int)                               {}
