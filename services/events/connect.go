package events

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

const (
	// seedBroker stands for whatever brokers there are: it is looked up anew
	// on every connection, so that a client finds brokers that have moved.
	seedBroker = "kafka.flix.test:9092"

	dialTimeout      = 2 * time.Second
	minRetryBackoff  = 10 * time.Millisecond
	maxRetryBackoff  = 250 * time.Millisecond
	metadataMinAge   = 20 * time.Millisecond
	metadataMaxAge   = time.Minute
	requestOverhead  = 5 * time.Second
	connIdleTimeout  = time.Minute
	maxConsumedBytes = 4 << 20
)

// clientOpts are the options that producers and consumers have in common.
func clientOpts(id string, brokers func(context.Context) ([]string, error), dial services.DialFunc, tel *telemetry.Telemetry) []kgo.Opt {
	return []kgo.Opt{
		kgo.ClientID(id), kgo.SeedBrokers(seedBroker), kgo.Dialer(seedDialer(brokers, dial)),
		kgo.RetryBackoffFn(backoff), kgo.RequestTimeoutOverhead(requestOverhead), kgo.ConnIdleTimeout(connIdleTimeout),
		kgo.MetadataMinAge(metadataMinAge), kgo.MetadataMaxAge(metadataMaxAge),
		kgo.DisableClientMetrics(), kgo.WithLogger(logger{tel}),
	}
}

// backoff before the n-th retry: doubling from 10 to 250 ms.
func backoff(n int) time.Duration {
	return min(minRetryBackoff<<min(max(n-1, 0), 10), maxRetryBackoff)
}

// seedDialer dials a broker, or the first reachable one in place of the seed.
func seedDialer(brokers func(context.Context) ([]string, error), dial services.DialFunc) func(context.Context, string, string) (net.Conn, error) {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		if addr != seedBroker {
			return dial(ctx, network, addr)
		}
		addrs, err := brokers(ctx)
		if err != nil {
			return nil, fmt.Errorf("brokers: %w", err)
		}
		err = errors.New("no broker is known")
		for i, a := range addrs {
			c, derr := dial(ctx, network, a)
			if derr == nil {
				return c, nil
			}
			if i == 0 {
				err = derr
			}
		}
		return nil, err
	}
}

// logger hands the client library's warnings to the instance's log. They are
// about single connections, which the library mends itself.
type logger struct{ tel *telemetry.Telemetry }

// Level is kgo.Logger's.
func (logger) Level() kgo.LogLevel { return kgo.LogLevelWarn }

// Log is kgo.Logger's.
func (l logger) Log(_ kgo.LogLevel, msg string, keyvals ...any) {
	l.tel.Log.Debug("kafka: "+msg, keyvals...)
}
