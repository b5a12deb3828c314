package play

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/edge"
	"github.com/flix-lab/flix/services/steering/steeringpb"
)

// The standards have players poll: an order holds for its TTL. Who cannot wait is
// told sooner, in two ways. An event stream sends the order whenever it changes.
// And a question with a wait is answered when there is something new: a stock
// player whose manifest was asked for with one puts it into every question of its
// own, and so hears of a change at once while it does what the standards say.

const (
	// maxFollowers bounds who is told of changes by one instance, and
	// maxFollowing those of one play: a page, a tool beside it, and what they
	// left behind when a connection broke.
	maxFollowers, maxFollowing = 4096, 8
	// maxWait is how long a question may wait, in seconds: balancers and browsers
	// take a connection on which nothing comes for broken.
	maxWait = 30
	// beat is how often a waiting answer sends a space, which JSON allows, and
	// comment how often a stream says that it is there: players give a server up
	// that sends nothing (Shaka Player after 5 s).
	beat, comment = time.Second, 10 * time.Second
	// heldTTL is the TTL, in seconds, of an answer to a question that waited: the
	// next may be asked at once, for it waits as well.
	heldTTL = 1
	// movedTTL is that of one that did not wait, as the player was to move: whether
	// it does is seen soon, and one that cannot must not ask all the time.
	movedTTL = 5
	// followAgain is the first pause before steering is followed anew; it doubles.
	followAgain = 50 * time.Millisecond
)

// followers are the clients that are told of changes, by their sessions. Safe for
// concurrent use.
type followers struct {
	mu  sync.Mutex
	n   int
	all map[string][]*context.CancelFunc
}

// join adds one of a session; its context ends with the session and leave.
func (f *followers) join(session string) (ctx context.Context, leave func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n >= maxFollowers {
		return nil, nil, services.Errorf(services.Exhausted, "%d players are told of changes already", f.n).WithReason("too_many_followers").WithRemedy("ask without waiting")
	}
	if len(f.all[session]) >= maxFollowing {
		return nil, nil, services.Errorf(services.Exhausted, "this play is told of changes %d times over already", maxFollowing).WithReason("too_many_followers").WithRemedy("close some of its connections")
	}
	ctx, cancel := context.WithCancel(context.Background())
	if f.all == nil {
		f.all = map[string][]*context.CancelFunc{}
	}
	f.all[session] = append(f.all[session], &cancel)
	f.n++
	return ctx, func() { f.leave(session, &cancel) }, nil
}

func (f *followers) leave(session string, c *context.CancelFunc) {
	(*c)()
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.Index(f.all[session], c)
	if i < 0 {
		return
	}
	f.n--
	if f.all[session] = slices.Delete(f.all[session], i, i+1); len(f.all[session]) == 0 {
		delete(f.all, session)
	}
}

// end ends those of a play that was stopped.
func (f *followers) end(session string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, cancel := range f.all[session] {
		(*cancel)()
	}
}

// count is how many there are.
func (f *followers) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// follow sends a play's orders to a channel as steering tells of them, until ctx
// ends, and closes it then. Steering that is away is asked again: the player
// keeps what it has.
func (s *Server) follow(ctx context.Context, p play, to chan<- *steeringpb.RankReply) {
	defer close(to)
	pause := followAgain
	for ctx.Err() == nil {
		stream, err := s.d.Steering.Follow(ctx, &steeringpb.RankRequest{ClientIp: p.ClientIP, TitleId: p.title, Max: maxAppliances})
		for err == nil {
			var r *steeringpb.RankReply
			if r, err = stream.Recv(); err != nil {
				break
			}
			pause = followAgain
			select {
			case to <- r:
			case <-ctx.Done():
				return
			}
		}
		again := time.NewTimer(pause)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
		}
		pause = min(2*pause, s.d.Timing.RPCTimeout.D())
	}
}

// held is one answer that lasts.
type held struct {
	w     io.Writer
	known *steeringpb.RankReply
	// every is how often idle is written.
	every time.Duration
	idle  string
	// most is how long it lasts at the longest.
	most time.Duration
	// news is told of each order that is new; false ends the answer.
	news func(*steeringpb.RankReply) (more bool, err error)
}

// hold follows a play for an answer that lasts, until that, its caller or its play
// ends.
func (s *Server) hold(ctx, session context.Context, p play, h held) error {
	ctx, cancel := context.WithTimeout(ctx, h.most)
	defer context.AfterFunc(session, cancel)()
	orders := make(chan *steeringpb.RankReply)
	var g sync.WaitGroup
	g.Go(func() { s.follow(ctx, p, orders) })
	defer g.Wait()
	defer cancel()
	tick := time.NewTicker(h.every)
	defer tick.Stop()
	for {
		select {
		case r, ok := <-orders:
			switch {
			case !ok:
				return nil
			case same(h.known, r):
				continue
			}
			h.known = r
			if more, err := h.news(r); err != nil || !more {
				return err
			}
		case <-tick.C:
			if _, err := io.WriteString(h.w, h.idle); err != nil {
				return err
			}
		}
	}
}

// same says whether a stock player may go the same ways at the same ranks.
func same(a, b *steeringpb.RankReply) bool {
	x, y := plain(a.GetCandidates()), plain(b.GetCandidates())
	if len(x) != len(y) {
		return false
	}
	for _, c := range x {
		if !slices.ContainsFunc(y, func(d *steeringpb.Candidate) bool {
			return c.GetAppliance() == d.GetAppliance() && c.GetRank() == d.GetRank() && c.GetPlainUrl() == d.GetPlainUrl()
		}) {
			return false
		}
	}
	return true
}

// events answers with a stream of server-sent events (HTML, 9.2), each a steering
// manifest. It ends after a time, so that an edge that is drained gets rid of it,
// and the client comes back by itself.
func (s *Server) events(r *http.Request) (any, error) {
	p, rank, err := s.order(r)
	if err != nil {
		return nil, err
	}
	session, leave, err := s.stock.followers.join(p.session)
	if err != nil {
		return nil, err
	}
	s.stock.served.WithLabelValues(fileEvents, "").Inc()
	return edge.Stream{Type: typeEvents, Any: true, Close: leave, Send: func(ctx context.Context, w io.Writer) error {
		tell := func(rank *steeringpb.RankReply) (bool, error) {
			b, err := json.Marshal(s.manifest(r, rank, false))
			if err == nil {
				_, err = io.WriteString(w, "event: steering\ndata: "+string(b)+"\n\n")
			}
			return true, err
		}
		if _, err := io.WriteString(w, "retry: 1000\n"); err != nil {
			return err
		}
		if _, err := tell(rank); err != nil {
			return err
		}
		return s.hold(ctx, session, p, held{w: w, known: rank, every: comment, idle: ": still here\n\n", most: s.d.Timing.MaxConnectionAge.D(), news: tell})
	}}, nil
}

// wait answers a question that may wait, if it says which way is in use: when that
// is not the best any more, when the ways change, or when its time is over. A play
// or an instance with too many of them is answered at once.
func (s *Server) wait(r *http.Request, p play, rank *steeringpb.RankReply) (any, error) {
	seconds, _ := strconv.Atoi(r.URL.Query().Get("wait")) // the description has it a number
	switch m := s.manifest(r, rank, false); {
	case seconds == 0:
		return m, nil
	case current(r.URL.Query()) == "":
		// Its first question: until it is answered a player may use no way but the
		// manifest's first, or not begin (Shaka Player, with DASH and HLS).
		m.TTL = heldTTL
		return m, nil
	case s.moves(r, rank):
		m.TTL = min(m.TTL, movedTTL)
		return m, nil
	}
	session, leave, err := s.stock.followers.join(p.session)
	if err != nil {
		return s.manifest(r, rank, false), nil //nolint:nilerr // it is told less soon, and told that by the TTL
	}
	return edge.Stream{Type: "application/json", Close: leave, Send: func(ctx context.Context, w io.Writer) error {
		err := s.hold(ctx, session, p, held{
			w: w, known: rank, every: beat, idle: " ", most: time.Duration(seconds) * time.Second,
			news: func(fresh *steeringpb.RankReply) (bool, error) { rank = fresh; return false, nil },
		})
		if err != nil || ctx.Err() != nil {
			return err
		}
		return json.NewEncoder(w).Encode(s.manifest(r, rank, true))
	}}, nil
}
