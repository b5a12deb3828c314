package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/evacuate"
	"github.com/flix-lab/flix/lab/record"
	"github.com/flix-lab/flix/services"
)

const (
	// moveLook is how often a move is looked at.
	moveLook = 500 * time.Millisecond
	// moveWrites of each kind begin per second while a region moves.
	moveWrites = 5
	// moveWait bounds the wait for their replication.
	moveWait = 3 * time.Second
	// maxMoveSeconds bounds the writes of a move that does not end.
	maxMoveSeconds = 600
	// maxMoveLooks bounds the points of a series.
	maxMoveLooks = 1200
)

// moveWatch looks at the lab while a region is evacuated or returned: what
// viewers felt, where requests went, and whether writes survived.
type moveWatch struct {
	l    *Lab
	verb string
	// tell is told of every look; it may be nil.
	tell    control.Progress
	region  string
	regions []string
	began   time.Time

	stop   context.CancelFunc
	looked sync.WaitGroup
	// written delivers the check's outcome once its writes were told to end; it
	// is nil if nothing is written.
	written             chan checked
	endWrite, dropWrite context.CancelFunc

	mu     sync.Mutex // guards what follows
	phases []record.Phase
	marks  []record.Mark
	// viewers' sessions as they were last seen, and what passed since the last
	// split.
	sessions map[string]control.Session
	felt     felt
	inFlight int
	before   felt
	requests map[string][]record.Point
	rebuffer []record.Point
	playing  []record.Point
	latency  []record.Point
	errors   []record.Point
	p99      []record.Point
	starts   []record.Point
	last     map[string]regionLoad
	most     map[string]regionLoad // servers that answered at once
	times    latencies
	lastAt   time.Time
	notes    []string
}

type checked struct {
	c   control.Check
	err error
}

// felt is time that viewers spent, in seconds of media and of stalls.
type felt struct{ played, stalled float64 }

func (f felt) ratio() float64 {
	if f.played+f.stalled <= 0 {
		return 0
	}
	return f.stalled / (f.played + f.stalled)
}

// watchMove begins to look, and to write.
func (l *Lab) watchMove(ctx context.Context, verb string, r control.FailoverRequest, p control.Progress) *moveWatch {
	i := l.current()
	w := &moveWatch{l: l, verb: verb, tell: p, region: r.Region, regions: i.Topology.RegionNames(), began: time.Now(), sessions: map[string]control.Session{}, requests: map[string][]record.Point{}, most: map[string]regionLoad{}}
	if _, ok := i.Topology.Region(r.Region); !ok {
		return w // it will be refused
	}
	w.look(ctx)
	// What sessions tell of themselves up to now is what was before.
	for _, s := range w.sessions {
		w.inFlight++
		w.before.played += s.PositionS
		w.before.stalled += s.RebufferS
	}
	w.felt = felt{}
	looking, stop := context.WithCancel(ctx)
	w.stop = stop
	w.looked.Go(func() {
		tick := time.NewTicker(moveLook)
		defer tick.Stop()
		for {
			select {
			case <-looking.Done():
				return
			case <-tick.C:
				w.look(looking)
			}
		}
	})
	if !r.Unchecked && !l.isDown(r.Region) {
		w.write(ctx)
	}
	return w
}

// write has a client of the region write until the move is over.
func (w *moveWatch) write(ctx context.Context) {
	ctx, w.dropWrite = context.WithCancel(ctx)
	until, end := context.WithCancel(ctx)
	w.endWrite, w.written = end, make(chan checked, 1)
	w.looked.Go(func() {
		c, err := w.l.checkUntil(ctx, until, control.CheckRequest{Region: w.region, Seconds: maxMoveSeconds, Rate: moveWrites, WaitMS: float64(moveWait.Milliseconds())}, nil)
		w.written <- checked{c, err}
	})
}

// heard takes a step or a note of the run.
func (w *moveWatch) heard(kind, text string, data map[string]any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Since(w.began).Seconds()
	_, what, _ := strings.Cut(kind, ".")
	switch what {
	case "step":
		name, _ := data["step"].(string)
		ms, _ := data["ms"].(float64)
		w.phases = append(w.phases, record.Phase{Name: name, From: max(now-ms/1000, 0), To: now, Text: text})
	case "play_failed", "rollback":
		if len(w.marks) < 100 {
			w.marks = append(w.marks, record.Mark{At: now, Text: text, Bad: true})
		}
	case "note":
		w.notes = append(w.notes, text)
	}
}

// look takes one look at viewers and gateways.
func (w *moveWatch) look(ctx context.Context) {
	sessions, err := w.l.Sessions(ctx)
	if err != nil {
		sessions = nil // the pipeline is out of reach: nothing is known of viewers
	}
	loads := make(map[string]regionLoad, len(w.regions))
	for _, r := range w.regions {
		var load regionLoad
		if e, err := (planet{w.l}).Edge(ctx, r); err == nil {
			load = regionLoad{gateways: e.Gateways, requests: e.ClientRequests, answered: e.Answered, failed: e.Failed, busy: e.BusySeconds}
		}
		if !w.l.isDown(r) {
			load.starts, load.apis = w.l.playsBegun(ctx, r)
		}
		loads[r] = load
	}
	times := w.l.edgeLatencies(ctx, w.regions)
	if ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	at := now.Sub(w.began).Seconds()
	delta, active := w.feel(sessions, now)
	w.felt.played += delta.played
	w.felt.stalled += delta.stalled
	if len(w.rebuffer) < maxMoveLooks {
		w.rebuffer = append(w.rebuffer, record.Point{At: at, Value: delta.ratio()})
		w.playing = append(w.playing, record.Point{At: at, Value: float64(active)})
		rate := w.rates(loads, now, at)
		if w.last != nil {
			p99 := times.quantile(0.99, w.times)
			w.p99 = append(w.p99, record.Point{At: at, Value: p99})
			w.starts = append(w.starts, record.Point{At: at, Value: rate})
			w.show(active, delta, p99, rate)
		}
	}
	w.last, w.lastAt, w.times = loads, now, times
	for r, a := range loads {
		m := w.most[r]
		m.gateways, m.apis = max(m.gateways, a.gateways), max(m.apis, a.apis)
		w.most[r] = m
	}
}

// show tells whoever watches what the last look saw. The caller holds the lock.
func (w *moveWatch) show(active int, delta felt, p99, starts float64) {
	if w.tell == nil {
		return
	}
	rates := map[string]any{}
	for r, points := range w.requests {
		if n := len(points); n > 0 {
			rates[r] = points[n-1].Value
		}
	}
	data := map[string]any{"requests": rates, "playing": active, "rebuffer": delta.ratio(), "starts": starts, "p99_ms": p99, "mean_ms": 0.0, "failed": 0.0}
	if n := len(w.latency); n > 0 {
		data["mean_ms"] = w.latency[n-1].Value
	}
	if n := len(w.errors); n > 0 {
		data["failed"] = w.errors[n-1].Value
	}
	w.tell(control.Event{At: time.Now().UTC(), Kind: w.verb + ".look", Subject: w.region, Text: fmt.Sprintf("%d plays under way", active), Data: data})
}

// regionLoad is what those of a region's gateways and play APIs that answered have
// counted.
type regionLoad struct {
	gateways, apis             int
	requests, answered, failed uint64
	busy, starts               float64
}

// continues says whether what n servers have counted goes on from what was counted
// before: by the same number, or by more than ever answered, of which the others are
// new. One that answers again brings all that it ever counted.
func continues(was, n, most int) bool { return n == was || n > most }

// rates adds what came per second to the series, and returns how many plays began
// per second. The caller holds the lock.
func (w *moveWatch) rates(loads map[string]regionLoad, now time.Time, at float64) float64 {
	took := now.Sub(w.lastAt).Seconds()
	if w.last == nil || took <= 0 {
		return 0
	}
	var busy, starts float64
	var answered, failed uint64
	for _, r := range w.regions {
		b, a, most := w.last[r], loads[r], w.most[r]
		rate := 0.0
		known := continues(b.gateways, a.gateways, most.gateways)
		if known && a.requests >= b.requests {
			rate = float64(a.requests-b.requests) / took
		}
		if known && a.answered >= b.answered && a.busy >= b.busy {
			busy, answered = busy+a.busy-b.busy, answered+a.answered-b.answered
		}
		if known && a.failed >= b.failed {
			failed += a.failed - b.failed
		}
		if continues(b.apis, a.apis, most.apis) {
			starts += max(a.starts-b.starts, 0)
		}
		w.requests[r] = append(w.requests[r], record.Point{At: at, Value: rate})
	}
	mean := 0.0
	if answered > 0 {
		mean = busy / float64(answered) * 1000
	}
	w.latency = append(w.latency, record.Point{At: at, Value: mean})
	w.errors = append(w.errors, record.Point{At: at, Value: float64(failed)})
	return starts / took
}

// feel compares sessions with what they were. The caller holds the lock.
func (w *moveWatch) feel(sessions []control.Session, now time.Time) (delta felt, active int) {
	fresh := 3 * w.l.current().Topology.Timing.ProgressReport.D()
	next := make(map[string]control.Session, len(w.sessions))
	for _, s := range sessions {
		if s.State != "playing" || now.Sub(s.Updated) > fresh {
			continue
		}
		active++
		if was, ok := w.sessions[s.Session]; ok {
			delta.played += max(s.PositionS-was.PositionS, 0)
			delta.stalled += max(s.RebufferS-was.RebufferS, 0)
		}
		next[s.Session] = s
	}
	w.sessions = next
	return delta, active
}

// end stops looking and writing, and makes the record. When viewers are
// watching it looks on for as long as their next report takes.
func (w *moveWatch) end(ctx context.Context, rep control.Failover) record.Record {
	rec := record.Record{
		ID: rep.ID, Kind: rep.Verb, Subject: w.region, Started: w.began.UTC(), Ended: time.Now().UTC(), State: rep.State,
		Summary: fmt.Sprintf("%s of %s: %s", rep.Verb, w.region, rep.State),
	}
	if w.stop == nil {
		return rec
	}
	w.mu.Lock()
	during, viewers := w.felt, len(w.sessions)
	w.felt = felt{}
	w.mu.Unlock()
	var writes *checked
	if w.written != nil {
		w.endWrite()
		if rep.State == evacuate.Refused {
			w.dropWrite() // nothing has moved: nobody reads them
		}
		got := <-w.written
		w.dropWrite()
		writes = &got
	}
	after := felt{}
	if viewers > 0 && rep.State != evacuate.Refused {
		t := time.NewTimer(w.l.current().Topology.Timing.ProgressReport.D() * 3 / 2)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
		w.mu.Lock()
		after = w.felt
		w.mu.Unlock()
	}
	w.stop()
	w.looked.Wait()
	w.fill(&rec, rep, during, after, writes)
	rec.Summary += fmt.Sprintf(", %d of %s failed", rep.PlaysFailed, services.Count(rep.PlaysDuring, "new play"))
	if rep.RTOMS > 0 {
		rec.Summary += fmt.Sprintf(", RTO %s", record.Value(rep.RTOMS, "ms"))
	}
	return rec
}

// fill completes the record with figures and series.
func (w *moveWatch) fill(rec *record.Record, rep control.Failover, during, after felt, writes *checked) {
	rec.Phases, rec.Marks, rec.Notes = w.phases, w.marks, w.notes
	// Of a region that gets its viewers back there is none, nor of one that kept them.
	left := rep.Verb == evacuate.Leave && rep.State == evacuate.Done
	if left {
		rec.Figures = append(rec.Figures, record.Figure{Name: "RTO", Value: rep.RTOMS, Unit: "ms", Better: "less"})
	}
	rec.Figures = append(rec.Figures, []record.Figure{
		{Name: "plays in flight", Value: float64(w.inFlight)},
		{Name: "new plays tried", Value: float64(rep.PlaysDuring)},
		{Name: "new plays failed", Value: float64(rep.PlaysFailed), Better: "less"},
		{Name: "rebuffer ratio before", Value: w.before.ratio(), Better: "less"},
		{Name: "rebuffer ratio during", Value: during.ratio(), Better: "less"},
		{Name: "rebuffer ratio after", Value: after.ratio(), Better: "less"},
	}...)
	if left {
		rec.Figures = append(rec.Figures, record.Figure{Name: "requests in the region after", Value: float64(rep.RequestsInRegionAfter), Better: "less"})
	}
	if w.inFlight == 0 {
		rec.Notes = append(rec.Notes, "no viewer was playing when it began: the rebuffer ratios are of those that came, if any did")
	}
	w.fillWrites(rec, writes)
	for _, r := range w.regions {
		rec.Series = append(rec.Series, record.Series{Name: "requests " + r, Unit: "1/s", Points: w.requests[r]})
	}
	rec.Series = append(rec.Series,
		record.Series{Name: "plays under way", Points: w.playing},
		record.Series{Name: "starts", Unit: "1/s", Points: w.starts},
		record.Series{Name: "errors", Points: w.errors},
		record.Series{Name: "rebuffer ratio", Points: w.rebuffer},
		record.Series{Name: "mean latency", Unit: "ms", Points: w.latency},
		record.Series{Name: "latency p99", Unit: "ms", Points: w.p99})
	if rep.Error != "" {
		rec.Notes = append(rec.Notes, rep.Error)
	}
	for _, s := range rep.Savers {
		rec.Notes = append(rec.Notes, fmt.Sprintf("%s took %.0f %% with %d more instances", s.Region, 100*s.Share, len(s.Added)))
	}
	b, err := json.Marshal(rep)
	if err == nil {
		rec.Data = b
	}
}

// fillWrites adds what became of the writes that were made meanwhile.
func (w *moveWatch) fillWrites(rec *record.Record, got *checked) {
	switch {
	case got == nil:
		rec.Notes = append(rec.Notes, "no writes were made meanwhile: nothing is known of lost ones")
		return
	case got.err != nil && services.ReasonOf(got.err) != services.ReasonDataLost:
		rec.Notes = append(rec.Notes, "the writes could not be checked: "+got.err.Error())
		return
	}
	var acked, lost int
	for _, k := range got.c.Kinds {
		acked, lost = acked+k.Acknowledged, lost+k.Lost
	}
	var samples, stale int
	var p99 float64
	for _, s := range got.c.Staleness {
		samples, stale, p99 = samples+s.Samples, stale+s.Unseen, max(p99, s.P99MS)
	}
	rec.Figures = append(rec.Figures,
		record.Figure{Name: "writes acknowledged", Value: float64(acked)},
		record.Figure{Name: "lost writes", Value: float64(lost), Better: "less"},
		record.Figure{Name: "reads elsewhere", Value: float64(samples)},
		record.Figure{Name: "stale reads at the end", Value: float64(stale), Better: "less"},
		record.Figure{Name: "staleness p99", Value: p99, Unit: "ms", Better: "less"})
	rec.Notes = append(rec.Notes, "writes: "+got.c.Verdict)
}
