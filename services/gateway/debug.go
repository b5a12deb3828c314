package gateway

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/token"
)

// DebugHeader asks for the detail of one request. Its value is a token of the
// audience token.Debug: what servers there are, and how they fare, is nobody
// else's to know. The same token may carry a surgical route; see surgical.go.
const DebugHeader = "X-Flix-Debug"

// Headers of the detail. Those of Zuul carry what Zuul's carry.
const (
	statusHeader       = "X-Flix-Status"
	attemptsHeader     = "X-Flix-Proxy-Attempts"
	filtersHeader      = "X-Flix-Filters"
	passportHeader     = "X-Flix-Passport"
	routeHeader        = "X-Flix-Route"
	overlayHeader      = "X-Flix-Overlay"
	traceHeader        = "X-Flix-Trace-Id"
	zuulStatusHeader   = "X-Zuul-Status"
	zuulAttemptsHeader = "X-Zuul-Proxy-Attempts"
	zuulInstanceHeader = "X-Zuul-Instance"
	zuulCauseHeader    = "X-Zuul-Error-Cause"
	zuulFiltersHeader  = "X-Zuul-Filter-Executions"
)

// askedForDetail is the inbound filter that believes a signed header only.
func (s *Server) askedForDetail(ex *Exchange) error {
	tok := ex.Request.Header.Get(DebugHeader)
	claims, err := s.d.Key.Verify(token.Debug, tok, ex.Received)
	if err != nil {
		s.metrics.refused.WithLabelValues("debug").Inc()
		s.d.Tel.Log.Debug("a request asks for detail without a good token", "request", ex.RequestID, "error", err)
		return nil
	}
	ex.Debug, ex.debug, ex.debugToken = true, &claims, tok
	return nil
}

// FilterRun is a filter's run in the detail of a request.
type FilterRun struct {
	Filter string `json:"filter"`
	// US is how long it took, in microseconds.
	US float64 `json:"us"`
}

// detail is the outbound filter that tells what became of the request. It is
// the last but the one that ends connections, so that it sees the others.
func (s *Server) detail(ex *Exchange) error {
	h := ex.Response.Header
	attempts := ex.Attempts
	if attempts == nil {
		attempts = []Attempt{}
	}
	b, err := json.Marshal(attempts)
	if err != nil {
		return services.Wrap("attempts", err)
	}
	runs := make([]FilterRun, 0, ex.nrun)
	var executions []byte
	for k, r := range ex.runs[:ex.nrun] {
		st := s.chain.all[r.number()]
		runs = append(runs, FilterRun{st.Name, float64(r.duration().Nanoseconds()) / 1000})
		if len(executions) > 0 {
			executions = append(executions, ", "...)
		}
		executions = append(executions, st.Name...)
		if ex.failures>>k&1 == 0 {
			executions = append(executions, "[SUCCESS]["...)
		} else {
			executions = append(executions, "[FAILED]["...)
		}
		executions = strconv.AppendInt(executions, r.duration().Milliseconds(), 10)
		executions = append(executions, "ms]"...)
	}
	fs, err := json.Marshal(runs)
	if err != nil {
		return services.Wrap("filters", err)
	}
	// An answer of another region's gateway tells its own part; this one's is
	// added behind it.
	h.Add(attemptsHeader, string(b))
	h.Add(filtersHeader, string(fs))
	h.Add(passportHeader, ex.Passport.Text(ex.Received, time.Now()))
	if ex.Route != nil && !h.Has(routeHeader) {
		h.Set(routeHeader, ex.Route.Name)
		if c := ex.Route.compiled; c != nil && c.overlay != "" {
			h.Set(overlayHeader, c.overlay)
		}
	}
	if id := ex.TraceID(); id != "" && !h.Has(traceHeader) {
		h.Set(traceHeader, id)
	}
	h.Set(zuulStatusHeader, ex.Category.String())
	h.Add(zuulAttemptsHeader, string(b))
	h.Set(zuulInstanceHeader, s.d.Instance)
	h.Add(zuulFiltersHeader, string(executions))
	if ex.Err != nil {
		cause := services.ReasonOf(ex.Err)
		if cause == "" {
			cause = string(services.KindOf(ex.Err))
		}
		h.Set(zuulCauseHeader, cause)
	}
	return nil
}

// seconds rounds a duration up to whole ones, as headers want them.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}
