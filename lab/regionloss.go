package lab

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/services"
)

// RegionLoss is the JSON of "flix chaos region": a region was lost without a
// warning, and this is what viewers felt.
type RegionLoss struct {
	Region string    `json:"region"`
	At     time.Time `json:"at"`
	Fault  string    `json:"fault"`
	// Until is when the region comes back by itself.
	Until time.Time `json:"until,omitzero"`
	// Recovered says that new plays succeed from everywhere again; RecoveredMS is
	// from the loss until they did so first, in milliseconds, and stayed so.
	Recovered   bool    `json:"recovered"`
	RecoveredMS float64 `json:"recovered_ms"`
	// BudgetMS is one DNS TTL and one health interval.
	BudgetMS float64 `json:"budget_ms"`
	// SessionsInFlight are plays of this command that were under way, all over the
	// lab; SessionsLost those of them that ended before their end.
	SessionsInFlight int `json:"sessions_in_flight"`
	SessionsLost     int `json:"sessions_lost"`
	// Rebuffers of the sessions in flight.
	Rebuffers int `json:"rebuffers"`
	// PlaysTried and PlaysFailed count new plays after the loss, from everywhere.
	PlaysTried  int `json:"plays_tried"`
	PlaysFailed int `json:"plays_failed"`
	// Near says it for the viewers near each region.
	Near []NearRegion `json:"near"`
	// Errors are some of what went wrong.
	Errors []string `json:"errors"`
	MS     float64  `json:"ms"`
}

// NearRegion is what viewers near one region felt.
type NearRegion struct {
	Region      string  `json:"region"`
	RecoveredMS float64 `json:"recovered_ms"`
	PlaysTried  int     `json:"plays_tried"`
	PlaysFailed int     `json:"plays_failed"`
	// AnsweredBy is the region that answers them now.
	AnsweredBy string `json:"answered_by"`
}

// LossRequest loses a region.
type LossRequest struct {
	Region string
	// TTL until it comes back by itself.
	TTL   time.Duration
	Force bool
	// Sessions in flight near each region.
	Sessions int
	// Patience bounds the wait for new plays.
	Patience time.Duration
}

// Fault is the loss as a fault.
func (r LossRequest) Fault() control.FaultRequest {
	return control.FaultRequest{Request: fault.Request{Kind: "kill", Target: "region:" + r.Region, TTL: r.TTL, Force: r.Force, By: "region"}}
}

const (
	// lossSessionSeconds of media an in-flight session plays, in real time.
	lossSessionSeconds = 12
	// lossBandwidth of its access link: what it would otherwise have in its
	// buffer at once it has to fetch on its way.
	lossBandwidth = 4_000_000
	// stays is how many plays in a row show that they succeed again.
	stays = 3
	// maxLossErrors bounds the errors that are kept.
	maxLossErrors = 10
)

// loss is one loss under way.
type loss struct {
	c        *control.Client
	v        *Viewer
	r        LossRequest
	title    string
	progress func(string)

	mu  sync.Mutex
	out RegionLoss
}

// LoseRegion kills a region without a warning to the lab, with sessions in
// flight, and returns when new plays succeed from everywhere and those sessions
// are over.
func LoseRegion(ctx context.Context, c *control.Client, r LossRequest, progress func(string)) (RegionLoss, error) {
	v, w, err := watching(ctx, c)
	if err != nil {
		return RegionLoss{}, err
	}
	defer v.stop()
	title, err := canaryTitle()
	if err != nil {
		return RegionLoss{}, err
	}
	t := w.Topology
	l := &loss{c: c, v: v.Viewer, r: r, title: title, progress: progress, out: RegionLoss{
		Region: r.Region, Near: []NearRegion{}, Errors: []string{}, BudgetMS: float64((t.Timing.DNSTTL + t.Timing.LeaseRenewal).D().Microseconds()) / 1000,
	}}
	sessions, err := l.begin(ctx, t.RegionNames())
	if err != nil {
		return l.out, err
	}
	began := time.Now()
	st, err := c.RunFault(ctx, r.Fault())
	if err != nil {
		sessions.abandon()
		return l.out, err
	}
	l.out.At, l.out.Fault, l.out.Until = st.Began, st.ID, st.Until
	progress(fmt.Sprintf("%s is lost: %s killed in %.0f ms, %s in flight", r.Region, services.Count(len(st.Blast.Instances), "instance"), st.MS, services.Count(l.out.SessionsInFlight, "session")))
	l.canaries(ctx, t.RegionNames(), began)
	sessions.wait()
	l.out.MS = float64(time.Since(began).Microseconds()) / 1000
	if err := ctx.Err(); err != nil {
		return l.out, err
	}
	if !l.out.Recovered {
		return l.out, services.Errorf(services.Unavailable, "new plays do not succeed from everywhere %s after the loss of %s", r.Patience, r.Region).
			WithReason(services.ReasonPlayFailed).WithRemedy("bring the region back: flix chaos stop %s", st.ID)
	}
	return l.out, nil
}

// inFlight are sessions under way.
type inFlight struct {
	wg      sync.WaitGroup
	abandon func()
}

func (s *inFlight) wait() { s.wg.Wait(); s.abandon() }

// begin starts the sessions and returns when all have begun to play.
func (l *loss) begin(ctx context.Context, regions []string) (*inFlight, error) {
	sctx, cancel := context.WithCancel(ctx)
	s := &inFlight{}
	s.abandon = func() { cancel(); s.wg.Wait() }
	first := &sync.WaitGroup{}
	for _, region := range regions {
		for n := range l.r.Sessions {
			l.out.SessionsInFlight++
			first.Add(1)
			begun := sync.OnceFunc(first.Done)
			s.wg.Go(func() {
				defer begun()
				l.session(sctx, region, n, begun)
			})
		}
	}
	done := make(chan struct{})
	go func() { first.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		s.abandon()
		return nil, ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out.SessionsLost > 0 {
		s.abandon()
		return nil, services.Errorf(services.Unavailable, "%d of %d sessions failed before anything was broken: %s", l.out.SessionsLost, l.out.SessionsInFlight, strings.Join(l.out.Errors, "; ")).WithRemedy("see what ails the lab first: flix lab status")
	}
	return s, nil
}

// session plays one title as a viewer near a region.
func (l *loss) session(ctx context.Context, region string, n int, begun func()) {
	v := *l.v
	p, err := v.observed(func(p PlayProgress) {
		if p.Bytes > 0 {
			begun()
		}
	})
	if err != nil {
		l.lost(region, err)
		return
	}
	r, err := p.Play(ctx, PlayOptions{Title: l.title, Email: DemoEmail, Password: DemoPassword, Region: region, Seed: uint64(n), Seconds: lossSessionSeconds, Speed: 1, Bandwidth: lossBandwidth})
	if err == nil && !r.ChecksumOK {
		err = services.Errorf(services.Unavailable, "it played %d segments, not all of them whole", r.Segments)
	}
	if ctx.Err() != nil && err != nil {
		return
	}
	if err != nil {
		l.lost(region, err)
	}
	l.mu.Lock()
	l.out.Rebuffers += r.Rebuffers
	l.mu.Unlock()
}

func (l *loss) lost(region string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out.SessionsLost++
	l.note(fmt.Sprintf("a session near %s: %v", region, err))
}

func (l *loss) note(text string) {
	if len(l.out.Errors) < maxLossErrors {
		l.out.Errors = append(l.out.Errors, text)
	}
}

// canaries plays from near every region until all succeed.
func (l *loss) canaries(ctx context.Context, regions []string, began time.Time) {
	ctx, cancel := context.WithTimeout(ctx, l.r.Patience)
	defer cancel()
	near := make([]NearRegion, len(regions))
	var wg sync.WaitGroup
	for k, region := range regions {
		wg.Go(func() { near[k] = l.canary(ctx, region, began) })
	}
	wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out.Near, l.out.Recovered = near, true
	for _, n := range near {
		l.out.PlaysTried += n.PlaysTried
		l.out.PlaysFailed += n.PlaysFailed
		l.out.RecoveredMS = max(l.out.RecoveredMS, n.RecoveredMS)
		if n.RecoveredMS == 0 {
			l.out.Recovered = false
		}
	}
	if !l.out.Recovered {
		l.out.RecoveredMS = 0
	}
}

// canary plays again and again near a region until as many plays as show that
// it is for good have succeeded in a row. Several overlap: one that hangs must
// not hide that the next would succeed.
func (l *loss) canary(ctx context.Context, region string, began time.Time) NearRegion {
	out := NearRegion{Region: region}
	type done struct {
		by  string
		end time.Time
		err error
	}
	results := make(chan done)
	run, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	tick := time.NewTicker(lossCanaryEvery)
	defer tick.Stop()
	play := func(n uint64) {
		wg.Go(func() {
			r, err := l.v.Play(run, PlayOptions{Title: l.title, Email: DemoEmail, Password: DemoPassword, Region: region, Seed: 1000 + n, Seconds: canarySeconds, Speed: canarySpeed})
			if err == nil && !r.ChecksumOK {
				err = services.Errorf(services.Unavailable, "it played nothing")
			}
			select {
			case results <- done{r.Region, time.Now(), err}:
			case <-run.Done():
			}
		})
	}
	row, first, under := 0, time.Time{}, 0
	for n := uint64(0); ; {
		if under < lossCanaries {
			play(n)
			n++
			under++
		}
		select {
		case <-ctx.Done():
			out.RecoveredMS = 0
			return out
		case d := <-results:
			under--
			out.PlaysTried++
			if d.err != nil {
				out.PlaysFailed++
				row = 0
				l.mu.Lock()
				l.note(fmt.Sprintf("a new play near %s: %v", region, d.err))
				l.mu.Unlock()
				break
			}
			if row++; row == 1 {
				first = d.end
			}
			if out.AnsweredBy = d.by; row == stays {
				out.RecoveredMS = float64(first.Sub(began).Microseconds()) / 1000
				l.progress(fmt.Sprintf("new plays near %s succeed, answered by %s, %.0f ms after the loss", region, d.by, out.RecoveredMS))
				return out
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

const (
	// lossCanaryEvery is the least time between two new plays near a region, and
	// lossCanaries how many may be under way at once.
	lossCanaryEvery = 100 * time.Millisecond
	lossCanaries    = 4
)
