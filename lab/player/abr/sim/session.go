package sim

import (
	"github.com/flix-lab/flix/lab/player/abr"
	"github.com/flix-lab/flix/services"
)

// gammaSeconds weighs a stall: one that lasts as long as a segment costs as
// much utility as this.
const gammaSeconds = 5

// maxRetries bounds how often one segment is begun.
const maxRetries = 1000

// Result of a session.
type Result struct {
	// Utility, BitrateKbps and ChangeKbps are averages over the session per
	// length of a segment: of ln(bit rate ÷ lowest) played, of the bit rate
	// played, and of its changes' sizes.
	Utility float64 `json:"utility"`
	// RebufferRatio is the stalled time ÷ the session's, start included.
	RebufferRatio float64 `json:"rebuffer_ratio"`
	// RebufferEvents counts stalls.
	RebufferEvents float64 `json:"rebuffer_events"`
	BitrateKbps    float64 `json:"bitrate_kbps"`
	ChangeKbps     float64 `json:"change_kbps"`
	// Score is (Σ utility − 5 · stall ÷ segment) · segment ÷ session.
	Score float64 `json:"score"`

	// SessionS and RebufferS in seconds of virtual time.
	SessionS  float64 `json:"session_s"`
	RebufferS float64 `json:"rebuffer_s"`
	// Abandoned and Replaced count transfers given up, and segments fetched
	// again in a better rung in time.
	Abandoned float64 `json:"abandoned"`
	Replaced  float64 `json:"replaced"`
}

// Mean of results; the zero Result of none.
func Mean(all []Result) Result {
	var m Result
	n := float64(len(all))
	for _, r := range all {
		m.Utility += r.Utility / n
		m.RebufferRatio += r.RebufferRatio / n
		m.RebufferEvents += r.RebufferEvents / n
		m.BitrateKbps += r.BitrateKbps / n
		m.ChangeKbps += r.ChangeKbps / n
		m.Score += r.Score / n
		m.SessionS += r.SessionS / n
		m.RebufferS += r.RebufferS / n
		m.Abandoned += r.Abandoned / n
		m.Replaced += r.Replaced / n
	}
	return m
}

// session is one play in virtual time.
type session struct {
	ladder   abr.Ladder
	bufferMS float64
	algo     abr.Algorithm
	network  *network
	buffer   *buffer
	estimate *abr.Estimator
	next     int

	abandoned, replaced int
}

// Play plays a title over a trace, as ParseMovie and ParseNetwork give them,
// with a buffer of at most bufferMS.
func Play(l abr.Ladder, trace []Period, bufferMS float64, algo abr.Algorithm) (Result, error) {
	s := &session{
		ladder: l, bufferMS: bufferMS, algo: algo, network: newNetwork(trace),
		buffer: newBuffer(l.SegmentMS, l.Kbps), estimate: abr.NewEstimator(l.SegmentMS),
	}
	if err := s.start(); err != nil {
		return Result{}, err
	}
	for retries := 0; s.next < len(l.Bits); {
		before := s.next
		if err := s.step(); err != nil {
			return Result{}, err
		}
		if retries++; s.next > before {
			retries = 0
		}
		if retries > maxRetries {
			return Result{}, services.Errorf(services.Internal, "segment %d was begun %d times and never taken", s.next, maxRetries)
		}
	}
	s.buffer.play(s.buffer.level())
	return s.result(), nil
}

func (s *session) view() abr.View {
	v := abr.View{Next: s.next, BufferMS: s.buffer.level(), Buffered: s.buffer.rungs, PlayedMS: s.buffer.playedMS}
	v.ThroughputKbps, v.LatencyMS = s.estimate.Throughput()
	return v
}

// start fetches the first segment, which nothing can be given up for. Its time
// is the session's, but no stall.
func (s *session) start() error {
	rung, err := s.rung(s.algo.First())
	if err != nil {
		return err
	}
	t := s.network.download(abr.Progress{Rung: rung, Bits: s.ladder.Bits[0][rung]}, nil)
	s.buffer.rungs = append(s.buffer.rungs, rung)
	s.learn(t)
	s.buffer.totalMS += t.ElapsedMS
	s.next = 1
	s.algo.Done(s.view(), t)
	return s.network.check()
}

// step makes room, asks the algorithm, and makes one transfer.
func (s *session) step() error {
	over := s.buffer.level() + s.ladder.SegmentMS - s.bufferMS
	if r, yes := s.algo.Replace(s.view(), over > 0); yes {
		return s.replace(r)
	}
	if over > 0 {
		s.buffer.play(over)
		s.network.wait(over)
		s.algo.Waited(over)
	}
	c := s.algo.Next(s.view())
	rung, err := s.rung(c.Rung)
	if err != nil {
		return err
	}
	if c.WaitMS > 0 {
		s.buffer.play(c.WaitMS)
		s.network.wait(c.WaitMS)
	}
	t := s.transfer(abr.Progress{Segment: s.next, Rung: rung, Bits: s.ladder.Bits[s.next][rung]})
	if t.Abandoned {
		s.abandoned++
	} else {
		s.buffer.rungs = append(s.buffer.rungs, rung)
		s.next++
	}
	s.done(t)
	return s.network.check()
}

// replace fetches a buffered segment again. It counts if it arrives before the
// segment begins to play.
func (s *session) replace(r abr.Replacement) error {
	rung, err := s.rung(r.Rung)
	if err != nil {
		return err
	}
	if r.Buffered < 0 || r.Buffered >= len(s.buffer.rungs) || r.Buffered == 0 && s.buffer.playedMS > 0 {
		return services.Errorf(services.Internal, "the algorithm replaces segment %d of %d buffered", r.Buffered, len(s.buffer.rungs))
	}
	behind := len(s.buffer.rungs) - r.Buffered // counted from the end: the front moves
	segment := s.next - behind
	t := s.transfer(abr.Progress{Segment: segment, Rung: rung, Replaces: true, Bits: s.ladder.Bits[segment][rung]})
	switch late := s.buffer.level() < s.ladder.SegmentMS*float64(behind); {
	case t.Abandoned:
		s.abandoned++
	case !late:
		s.buffer.rungs[len(s.buffer.rungs)-behind] = rung
		s.replaced++
	}
	s.done(t)
	return s.network.check()
}

// transfer downloads while the buffer plays.
func (s *session) transfer(p abr.Progress) abr.Transfer {
	v := s.view()
	level := v.BufferMS
	t := s.network.download(p, func(p abr.Progress) (int, bool) {
		v.BufferMS = max(0, level-p.ElapsedMS)
		return s.algo.Progressed(v, p)
	})
	s.buffer.play(t.ElapsedMS)
	return t
}

// done tells what came of a transfer. The estimate moves after the algorithm
// has seen it, as in Sabre, and by whole transfers alone.
func (s *session) done(t abr.Transfer) {
	s.algo.Done(s.view(), t)
	if !t.Abandoned {
		s.learn(t)
	}
}

func (s *session) learn(t abr.Transfer) {
	took := t.ElapsedMS - t.FirstByteMS
	s.estimate.Push(took, t.Received/took, t.FirstByteMS)
}

func (s *session) rung(q int) (int, error) {
	if q < 0 || q >= len(s.ladder.Kbps) {
		return 0, services.Errorf(services.Internal, "the algorithm takes rung %d of %d", q, len(s.ladder.Kbps))
	}
	return q, nil
}

func (s *session) result() Result {
	b := s.buffer
	per := 1 / (b.totalMS / s.ladder.SegmentMS)
	return Result{
		Utility: b.utility * per, RebufferRatio: b.stalledMS / b.totalMS, RebufferEvents: float64(b.stalls),
		BitrateKbps: b.bitrate * per, ChangeKbps: b.change * per,
		Score:    per * (b.utility - gammaSeconds*b.stalledMS/s.ladder.SegmentMS),
		SessionS: b.totalMS / 1000, RebufferS: b.stalledMS / 1000,
		Abandoned: float64(s.abandoned), Replaced: float64(s.replaced),
	}
}
