package resilience

import (
	"encoding/json"
	"time"
)

// The events of Hystrix's stream, key for key and in the order that version
// 1.5.18 writes them (SerialHystrixDashboardData). Times of calls are whole
// milliseconds there.

type percentiles struct {
	P0   int64 `json:"0"`
	P25  int64 `json:"25"`
	P50  int64 `json:"50"`
	P75  int64 `json:"75"`
	P90  int64 `json:"90"`
	P95  int64 `json:"95"`
	P99  int64 `json:"99"`
	P995 int64 `json:"99.5"`
	P100 int64 `json:"100"`
}

type sizePercentiles struct {
	P25  int64 `json:"25"`
	P50  int64 `json:"50"`
	P75  int64 `json:"75"`
	P90  int64 `json:"90"`
	P95  int64 `json:"95"`
	P99  int64 `json:"99"`
	P995 int64 `json:"99.5"`
	P100 int64 `json:"100"`
}

type hystrixCommand struct {
	Type                 string `json:"type"`
	Name                 string `json:"name"`
	Group                string `json:"group"`
	CurrentTime          int64  `json:"currentTime"`
	IsCircuitBreakerOpen bool   `json:"isCircuitBreakerOpen"`
	ErrorPercentage      int64  `json:"errorPercentage"`
	ErrorCount           int64  `json:"errorCount"`
	RequestCount         int64  `json:"requestCount"`

	RollingCountBadRequests        int64 `json:"rollingCountBadRequests"`
	RollingCountCollapsedRequests  int64 `json:"rollingCountCollapsedRequests"`
	RollingCountEmit               int64 `json:"rollingCountEmit"`
	RollingCountExceptionsThrown   int64 `json:"rollingCountExceptionsThrown"`
	RollingCountFailure            int64 `json:"rollingCountFailure"`
	RollingCountFallbackEmit       int64 `json:"rollingCountFallbackEmit"`
	RollingCountFallbackFailure    int64 `json:"rollingCountFallbackFailure"`
	RollingCountFallbackMissing    int64 `json:"rollingCountFallbackMissing"`
	RollingCountFallbackRejection  int64 `json:"rollingCountFallbackRejection"`
	RollingCountFallbackSuccess    int64 `json:"rollingCountFallbackSuccess"`
	RollingCountResponsesFromCache int64 `json:"rollingCountResponsesFromCache"`
	RollingCountSemaphoreRejected  int64 `json:"rollingCountSemaphoreRejected"`
	RollingCountShortCircuited     int64 `json:"rollingCountShortCircuited"`
	RollingCountSuccess            int64 `json:"rollingCountSuccess"`
	RollingCountThreadPoolRejected int64 `json:"rollingCountThreadPoolRejected"`
	RollingCountTimeout            int64 `json:"rollingCountTimeout"`

	CurrentConcurrentExecutionCount    int64 `json:"currentConcurrentExecutionCount"`
	RollingMaxConcurrentExecutionCount int64 `json:"rollingMaxConcurrentExecutionCount"`

	LatencyExecuteMean int64       `json:"latencyExecute_mean"`
	LatencyExecute     percentiles `json:"latencyExecute"`
	LatencyTotalMean   int64       `json:"latencyTotal_mean"`
	LatencyTotal       percentiles `json:"latencyTotal"`

	BreakerVolume       int64   `json:"propertyValue_circuitBreakerRequestVolumeThreshold"`
	BreakerSleep        int64   `json:"propertyValue_circuitBreakerSleepWindowInMilliseconds"`
	BreakerErrorPercent int64   `json:"propertyValue_circuitBreakerErrorThresholdPercentage"`
	BreakerForceOpen    bool    `json:"propertyValue_circuitBreakerForceOpen"`
	BreakerForceClosed  bool    `json:"propertyValue_circuitBreakerForceClosed"`
	BreakerEnabled      bool    `json:"propertyValue_circuitBreakerEnabled"`
	Strategy            string  `json:"propertyValue_executionIsolationStrategy"`
	ThreadTimeout       int64   `json:"propertyValue_executionIsolationThreadTimeoutInMilliseconds"`
	Timeout             int64   `json:"propertyValue_executionTimeoutInMilliseconds"`
	InterruptOnTimeout  bool    `json:"propertyValue_executionIsolationThreadInterruptOnTimeout"`
	PoolKeyOverride     *string `json:"propertyValue_executionIsolationThreadPoolKeyOverride"`
	MaxConcurrent       int64   `json:"propertyValue_executionIsolationSemaphoreMaxConcurrentRequests"`
	MaxFallbacks        int64   `json:"propertyValue_fallbackIsolationSemaphoreMaxConcurrentRequests"`
	StatisticalWindow   int64   `json:"propertyValue_metricsRollingStatisticalWindowInMilliseconds"`
	RequestCacheEnabled bool    `json:"propertyValue_requestCacheEnabled"`
	RequestLogEnabled   bool    `json:"propertyValue_requestLogEnabled"`
	ReportingHosts      int     `json:"reportingHosts"`
	ThreadPool          string  `json:"threadPool"`

	// State is not Hystrix's: only a client that asks for it gets it.
	State string `json:"circuitBreakerState,omitempty"`
}

type hystrixThreadPool struct {
	Type                        string `json:"type"`
	Name                        string `json:"name"`
	CurrentTime                 int64  `json:"currentTime"`
	CurrentActiveCount          int64  `json:"currentActiveCount"`
	CurrentCompletedTaskCount   int64  `json:"currentCompletedTaskCount"`
	CurrentCorePoolSize         int64  `json:"currentCorePoolSize"`
	CurrentLargestPoolSize      int64  `json:"currentLargestPoolSize"`
	CurrentMaximumPoolSize      int64  `json:"currentMaximumPoolSize"`
	CurrentPoolSize             int64  `json:"currentPoolSize"`
	CurrentQueueSize            int64  `json:"currentQueueSize"`
	CurrentTaskCount            int64  `json:"currentTaskCount"`
	RollingCountThreadsExecuted int64  `json:"rollingCountThreadsExecuted"`
	RollingMaxActiveThreads     int64  `json:"rollingMaxActiveThreads"`
	RollingCommandRejections    int64  `json:"rollingCountCommandRejections"`
	QueueRejectionThreshold     int64  `json:"propertyValue_queueSizeRejectionThreshold"`
	StatisticalWindow           int64  `json:"propertyValue_metricsRollingStatisticalWindowInMilliseconds"`
	ReportingHosts              int    `json:"reportingHosts"`
}

type hystrixCollapser struct {
	Type                    string          `json:"type"`
	Name                    string          `json:"name"`
	CurrentTime             int64           `json:"currentTime"`
	RollingRequestsBatched  int64           `json:"rollingCountRequestsBatched"`
	RollingBatches          int64           `json:"rollingCountBatches"`
	RollingResponsesOfCache int64           `json:"rollingCountResponsesFromCache"`
	BatchSizeMean           int64           `json:"batchSize_mean"`
	BatchSize               sizePercentiles `json:"batchSize"`
	RequestCacheEnabled     bool            `json:"propertyValue_requestCacheEnabled"`
	MaxRequestsInBatch      int             `json:"propertyValue_maxRequestsInBatch"`
	TimerDelay              int64           `json:"propertyValue_timerDelayInMilliseconds"`
	ReportingHosts          int             `json:"reportingHosts"`
}

func percentilesOf(s *spread) percentiles {
	at := func(p float64) int64 { return s.percentile(p) / 1000 }
	return percentiles{at(0), at(25), at(50), at(75), at(90), at(95), at(99), at(99.5), at(100)}
}

// dashboard renders one event per command, pool and collapser. Reading changes
// nothing: counters roll by the clock, not by who looks. With state set, the
// commands carry the breaker's state beside isCircuitBreakerOpen, which cannot
// tell a half-open one.
func (g *Group) dashboard(state bool) [][]byte {
	var out [][]byte
	add := func(v any) {
		b, err := json.Marshal(v)
		if err != nil {
			panic("resilience: " + err.Error()) // strings and numbers always encode
		}
		out = append(out, b)
	}
	unix, now := time.Now().UnixMilli(), g.clock.now()
	commands := g.sorted()
	pools := map[*pool]*hystrixThreadPool{}
	var order []*pool
	for _, c := range commands {
		h := c.dashboard(unix, now, state)
		add(h)
		p := pools[c.pool]
		if p == nil {
			p = c.pool.dashboard(unix)
			pools[c.pool] = p
			order = append(order, c.pool)
		}
		p.take(c, h)
	}
	for _, p := range order {
		if h := pools[p]; h.CurrentTaskCount > 0 { // as in Hystrix: a pool that nothing ran in is not told of
			add(h)
		}
	}
	for _, c := range g.sortedCollapsers() {
		add(c.dashboard(unix, now))
	}
	return out
}

func (c *circuit) dashboard(unix int64, now time.Duration, state bool) hystrixCommand {
	s, n := c.settings.Load(), c.window.sums(now)
	run, total := c.run.spread(now), c.total.spread(now)
	exceptions := int64(0)
	for _, e := range thrown {
		exceptions += n.counts[e]
	}
	h := hystrixCommand{
		Type: "HystrixCommand", Name: c.name, Group: c.options.Group, CurrentTime: unix,
		IsCircuitBreakerOpen: c.isOpen(s), ErrorCount: n.bad, RequestCount: n.good + n.bad,
		RollingCountBadRequests: n.counts[badRequest], RollingCountCollapsedRequests: n.counts[collapsed],
		RollingCountExceptionsThrown: exceptions, RollingCountFailure: n.counts[failure],
		RollingCountFallbackFailure: n.counts[fallbackFailure], RollingCountFallbackMissing: n.counts[fallbackMissing],
		RollingCountFallbackRejection: n.counts[fallbackRejection], RollingCountFallbackSuccess: n.counts[fallbackSuccess],
		RollingCountResponsesFromCache: n.counts[responseFromCache], RollingCountSemaphoreRejected: n.counts[semaphoreRejected],
		RollingCountShortCircuited: n.counts[shortCircuited], RollingCountSuccess: n.counts[success],
		RollingCountThreadPoolRejected: n.counts[threadPoolRejected], RollingCountTimeout: n.counts[timedOut],
		CurrentConcurrentExecutionCount: c.inFlight.Load(),
		LatencyExecuteMean:              run.mean() / 1000, LatencyExecute: percentilesOf(run),
		LatencyTotalMean: total.mean() / 1000, LatencyTotal: percentilesOf(total),
		BreakerVolume: s.volume, BreakerSleep: s.sleep.Milliseconds(), BreakerErrorPercent: s.errorPercent,
		BreakerForceOpen: s.forceOpen, BreakerForceClosed: s.forceClosed, BreakerEnabled: !s.breakerOff,
		Strategy: "SEMAPHORE", ThreadTimeout: s.timeout.Milliseconds(), Timeout: s.timeout.Milliseconds(), InterruptOnTimeout: true,
		MaxConcurrent: s.maxConcurrent, MaxFallbacks: s.maxFallbacks, StatisticalWindow: c.window.span().Milliseconds(),
		RequestCacheEnabled: !s.cacheOff, RequestLogEnabled: false, ReportingHosts: 1, ThreadPool: c.pool.name,
	}
	if c.apart.Load() {
		h.Strategy = "THREAD"
	}
	h.RollingMaxConcurrentExecutionCount = max(n.most, h.CurrentConcurrentExecutionCount)
	if h.RequestCount > 0 {
		h.ErrorPercentage = 100 * h.ErrorCount / h.RequestCount
	}
	if state {
		h.State = stateNames[c.breaker.state.Load()]
	}
	return h
}

// isOpen is what Hystrix calls so: half open is open.
func (c *circuit) isOpen(s *settings) bool {
	switch {
	case s.breakerOff:
		return false
	case s.forceOpen:
		return true
	case s.forceClosed:
		return false
	}
	return c.breaker.state.Load() != closed
}

func (p *pool) dashboard(unix int64) *hystrixThreadPool {
	return &hystrixThreadPool{
		Type: "HystrixThreadPool", Name: p.name, CurrentTime: unix,
		CurrentActiveCount: p.active.Load(), CurrentCompletedTaskCount: int64(p.completed.Load()),
		CurrentCorePoolSize: int64(p.size), CurrentMaximumPoolSize: int64(p.size), CurrentLargestPoolSize: p.largest.Load(),
		QueueRejectionThreshold: poolQueueThreshold, ReportingHosts: 1,
	}
}

// poolQueueThreshold is Hystrix's default; there is no queue (maxQueueSize -1),
// so nothing is ever rejected by it.
const poolQueueThreshold = 5

// take adds a command of the pool. What runs in the caller's goroutine, within
// the command's own bulkhead, is a task of its group's pool too, whose size
// that bulkhead adds to: a dashboard so shows the work of every dependency.
func (t *hystrixThreadPool) take(c *circuit, h hystrixCommand) {
	executed := h.RollingCountSuccess + h.RollingCountFailure + h.RollingCountTimeout + h.RollingCountBadRequests
	t.RollingCountThreadsExecuted += executed
	t.RollingCommandRejections += h.RollingCountThreadPoolRejected + h.RollingCountSemaphoreRejected
	t.RollingMaxActiveThreads += h.RollingMaxConcurrentExecutionCount
	t.StatisticalWindow = max(t.StatisticalWindow, h.StatisticalWindow)
	if h.Strategy == "SEMAPHORE" {
		ended := int64(0)
		for _, e := range []event{success, failure, timedOut, badRequest, cancelled} {
			ended += int64(c.events[e].Load())
		}
		t.CurrentActiveCount += h.CurrentConcurrentExecutionCount
		t.CurrentCompletedTaskCount += ended
		t.CurrentCorePoolSize += h.MaxConcurrent
		t.CurrentMaximumPoolSize += h.MaxConcurrent
		t.CurrentLargestPoolSize = max(t.CurrentLargestPoolSize, t.RollingMaxActiveThreads)
	}
	t.CurrentPoolSize = t.CurrentActiveCount
	t.CurrentTaskCount = t.CurrentCompletedTaskCount + t.CurrentActiveCount
}

func (c *collapses) dashboard(unix int64, now time.Duration) hystrixCollapser {
	added, batches, cached := c.window.sums(now)
	s := c.sizes.spread(now)
	at := s.percentile
	return hystrixCollapser{
		Type: "HystrixCollapser", Name: c.name, CurrentTime: unix,
		RollingRequestsBatched: added, RollingBatches: batches, RollingResponsesOfCache: cached, BatchSizeMean: s.mean(),
		BatchSize:           sizePercentiles{at(25), at(50), at(75), at(90), at(95), at(99), at(99.5), at(100)},
		RequestCacheEnabled: true, MaxRequestsInBatch: c.maxBatch, TimerDelay: c.delay.Milliseconds(), ReportingHosts: 1,
	}
}
