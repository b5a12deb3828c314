package cassandra

import (
	"sync"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
)

const (
	// protocol is that of Cassandra 4.0 and later.
	protocol = 5
	// connsPerNode carry up to 32768 requests each; a second one keeps small
	// answers from waiting behind large ones.
	connsPerNode = 2
	// speculateAfter is far above what a healthy node takes in its own region,
	// a millisecond or two, and far below what callers wait.
	speculateAfter = 100 * time.Millisecond
	// retries of what may be sent again, each at another node or connection.
	retries = 2
)

// connect opens a session with the region's nodes. It takes at most some
// connectTimeouts and ends with the directory's context.
func connect(d *directory) (*gocql.Session, *region, error) {
	contacts, err := d.contacts(d.ctx)
	if err != nil {
		return nil, nil, err
	}
	local := &region{HostSelectionPolicy: gocql.DCAwareRoundRobinPolicy(d.cfg.Datacenter), up: map[string]bool{}}
	c := gocql.NewCluster(contacts...)
	c.ProtoVersion = protocol
	c.NumConns = connsPerNode
	c.HostDialer = d
	c.Timeout, c.ConnectTimeout = d.cfg.Timeout, connectTimeout
	// A partition's replica first, then the region's other nodes. Nodes of other
	// regions are not even connected to: behind the WAN, a coordinator there
	// would count its own region as the local one.
	c.PoolConfig.HostSelectionPolicy = gocql.TokenAwareHostPolicy(local, gocql.ShuffleReplicas())
	c.HostFilter = gocql.DataCenterHostFilter(d.cfg.Datacenter)
	c.Consistency, c.SerialConsistency = gocql.LocalQuorum, gocql.LocalSerial
	c.RetryPolicy = retryPolicy{}
	// Whether a node is up is what its connections say. What the nodes say of
	// one another may come from the far side of a cut.
	c.Events.DisableNodeStatusEvents = true
	// One attempt, then the node counts as down until the next round.
	c.ReconnectionPolicy = &gocql.ConstantReconnectionPolicy{MaxRetries: 1, Interval: minPause}
	c.ReconnectInterval = d.cfg.longestPause()
	c.NextPagePrefetch = 0
	c.WriteCoalesceWaitTime = 0 // a lab's traffic gains nothing from waiting
	c.Metadata.CacheMode = gocql.KeyspaceOnly
	c.Logger = driverLog{d.cfg.Tel.Log}
	var session *gocql.Session
	err = d.while(func() error {
		session, err = c.CreateSession()
		return err
	})
	return session, local, err
}

// region is the policy that picks the region's nodes. It knows how many of
// them there are, because a second execution with nowhere to go does not wait
// for the first: the driver takes "no hosts" for the answer.
type region struct {
	gocql.HostSelectionPolicy

	mu sync.Mutex
	up map[string]bool // by host id
}

// AddHost implements gocql.HostSelectionPolicy.
func (r *region) AddHost(h *gocql.HostInfo) { r.set(h, true); r.HostSelectionPolicy.AddHost(h) }

// HostUp implements gocql.HostSelectionPolicy.
func (r *region) HostUp(h *gocql.HostInfo) { r.set(h, true); r.HostSelectionPolicy.HostUp(h) }

// RemoveHost implements gocql.HostSelectionPolicy.
func (r *region) RemoveHost(h *gocql.HostInfo) { r.set(h, false); r.HostSelectionPolicy.RemoveHost(h) }

// HostDown implements gocql.HostSelectionPolicy.
func (r *region) HostDown(h *gocql.HostInfo) { r.set(h, false); r.HostSelectionPolicy.HostDown(h) }

func (r *region) set(h *gocql.HostInfo, up bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if up {
		r.up[h.HostID()] = true
	} else {
		delete(r.up, h.HostID())
	}
}

// speculation asks a second node when the first is slow, if there is a second.
func (r *region) speculation() gocql.SpeculativeExecutionPolicy {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.up) < 2 {
		return gocql.NonSpeculativeExecution{}
	}
	return &gocql.SimpleSpeculativeExecution{NumAttempts: 1, TimeoutDelay: speculateAfter}
}

// retryPolicy says what is worth sending again. The driver asks it only about
// what is marked as idempotent.
type retryPolicy struct{}

// Attempt implements gocql.RetryPolicy.
func (retryPolicy) Attempt(q gocql.RetryableQuery) bool {
	return q.Attempts() <= retries && q.Context().Err() == nil
}

// GetRetryType implements gocql.RetryPolicy.
func (retryPolicy) GetRetryType(err error) gocql.RetryType {
	switch e := err.(type) {
	case *gocql.RequestErrReadTimeout:
		// Enough replicas answered but the one with the data: the next attempt
		// asks another for it.
		if e.Received >= e.BlockFor && e.DataPresent == 0 {
			return gocql.Retry
		}
		return gocql.Rethrow
	case *gocql.RequestErrWriteTimeout, *gocql.RequestErrUnavailable:
		// The coordinator has waited already, or knows the replicas to be down.
		return gocql.Rethrow
	case gocql.RequestError:
		switch e.Code() {
		case gocql.ErrCodeOverloaded, gocql.ErrCodeBootstrapping, gocql.ErrCodeServer:
			return gocql.RetryNextHost
		}
		return gocql.Rethrow
	}
	return gocql.RetryNextHost // the connection failed, not the request
}
