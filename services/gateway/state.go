package gateway

import (
	"math"
	"time"

	"github.com/flix-lab/flix/services/token"
)

// maxRuns bounds the filter runs that one exchange remembers.
const maxRuns = 32

// A tagged is a small number and a duration in one word: the number in the top
// byte, nanoseconds below it, which is room for two years.
type tagged uint64

func tag(n uint8, d time.Duration) tagged {
	return tagged(n)<<56 | tagged(min(max(d, 0), 1<<56-1))
}

func (t tagged) number() uint8 { return uint8(t >> 56) }

func (t tagged) duration() time.Duration { return time.Duration(t & (1<<56 - 1)) }

// chainState is what the filters keep of an exchange between them. It is part
// of the exchange, so that it costs no allocation of its own.
type chainState struct {
	// Passport is the timeline of the request.
	Passport Passport
	// Country and ISP are where the client is, Device what it watches on; ""
	// where nobody knows.
	Country, ISP, Device string
	// Class says how much a viewer needs the answer.
	Class Class
	// Category says how the request ended, in the gateway's eyes.
	Category Category

	authErr error
	trace   traceContext
	place   *place
	// debug are the claims of the token that asked for detail, or nil.
	debug      *token.Claims
	debugToken string
	// pin is the only instance to ask, avoid one not to ask; squeeze counts
	// what becomes of it.
	pin, avoid string
	squeeze    *squeeze
	// health says that the request only asks whether the gateway answers.
	health bool
	// preflight says that the request only asks what it may ask.
	preflight bool
	// origin is what the Origin header names, if it may use the API.
	origin string
	// byOrigin says that the answer depends on where the page comes from.
	byOrigin bool
	// vip is the API whose load the request is part of.
	vip *vipLoad
	// looked is when the clock was looked at last, since Received.
	looked time.Duration
	// timed says that the filters' time is measured.
	timed bool
	// runs are the filters that ran, by their place in the chain.
	runs [maxRuns]tagged
	nrun int
	// failures has a bit for each of the runs that failed.
	failures uint64
	// retryAfter is when a client that was refused may come back.
	retryAfter time.Duration
	// tasks of asynchronous filters under way.
	tasks []*running
}

// elapsed is the time since the request's header was complete.
func (ex *Exchange) elapsed() time.Duration { return time.Since(ex.Received) }

// mark looks at the clock and notes that the request has reached a state.
func (ex *Exchange) mark(s PassportState) { ex.Passport.add(s, ex.look()) }

// look looks at the clock. That takes as long as a filter does, or two: what
// happens within a microsecond shares a look.
func (ex *Exchange) look() time.Duration {
	ex.looked = ex.elapsed()
	return ex.looked
}

// now is when the clock was looked at last.
func (ex *Exchange) now() time.Time { return ex.Received.Add(ex.looked) }

// note remembers a filter's run.
func (ex *Exchange) note(st *step, took time.Duration, err error) {
	if ex.nrun < maxRuns {
		if err != nil {
			ex.failures |= 1 << ex.nrun
		}
		ex.runs[ex.nrun] = tag(st.id, took)
		ex.nrun++
	}
}

// milliseconds with microseconds behind the point.
func milliseconds(d time.Duration) float64 {
	return math.Round(float64(d)/float64(time.Microsecond)) / 1000
}
