package events

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

const (
	defaultBufferedRecords = 8192
	defaultBufferedBytes   = 8 << 20
	// maxEvent bounds one event, in bytes.
	maxEvent = 512 << 10
)

// ProducerConfig is what a producer needs.
type ProducerConfig struct {
	// Brokers returns host:port of the region's brokers. It is asked for new
	// connections and should answer from memory.
	Brokers func(context.Context) ([]string, error)
	// Dial opens connections; nil for a plain dialer.
	Dial services.DialFunc
	// ClientID names the client to the broker.
	ClientID string
	// MaxRecords and MaxBytes bound what is buffered; 0 for 8192 and 8 MiB.
	MaxRecords, MaxBytes int64
	// Tel are the instance's instruments.
	Tel *telemetry.Telemetry
}

// Producer sends events. It never blocks its caller: events wait in a bounded
// buffer while the broker is away, are sent in order per key when it is back,
// and each at most once into the log.
type Producer struct {
	cfg      ProducerConfig
	client   *kgo.Client
	produced *prometheus.CounterVec

	records, bytes atomic.Int64

	mu      sync.RWMutex // held for writing to set closed
	closed  bool
	pending sync.WaitGroup // events whose fate is open
}

// NewProducer makes a producer. It connects when the first event is sent.
func NewProducer(c ProducerConfig) (*Producer, error) {
	if c.Brokers == nil || c.Tel == nil {
		return nil, services.Errorf(services.Invalid, "events.NewProducer: Brokers and Tel are required")
	}
	if c.MaxRecords <= 0 {
		c.MaxRecords = defaultBufferedRecords
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = defaultBufferedBytes
	}
	p := &Producer{cfg: c, produced: counterVec(c.Tel.Metrics, "events_produced_total", "Events sent, by result: ok, failed, refused.", "topic", "result")}
	opts := append(clientOpts(c.ClientID, c.Brokers, c.Dial, c.Tel),
		kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()),
		// The producer's own bound is checked first, so this one never bites.
		kgo.MaxBufferedRecords(int(2*c.MaxRecords)),
	)
	var err error
	if p.client, err = kgo.NewClient(opts...); err != nil {
		return nil, services.Wrap("events.NewProducer", err)
	}
	return p, nil
}

// NewHeader fills the header of an event that happens now.
func NewHeader(ctx context.Context, tel *telemetry.Telemetry) Header {
	return Header{ID: rand.Text(), At: time.Now().UTC(), Region: tel.Region, Instance: tel.Instance, TraceID: telemetry.TraceID(ctx)}
}

// Send encodes an event as JSON and buffers it for its topic; events of one
// key keep their order. A nil error says that it was buffered, not that it
// arrived: what becomes of it shows in events_produced_total, or after Flush.
// It fails with services.Exhausted when the buffer is full. The context
// carries the trace only; its end does not take the event back.
func (p *Producer) Send(ctx context.Context, topic, key string, event any) error {
	err := p.send(ctx, topic, key, event)
	if err != nil {
		p.produced.WithLabelValues(topic, "refused").Inc()
		return services.Wrap("events.Send "+topic, err)
	}
	return nil
}

func (p *Producer) send(ctx context.Context, topic, key string, event any) error {
	value, err := json.Marshal(event)
	if err != nil {
		return services.Errorf(services.Invalid, "the event cannot be encoded: %v", err)
	}
	if len(value) > maxEvent {
		return services.Errorf(services.Invalid, "the event has %d bytes and %d are the most", len(value), maxEvent)
	}
	n := int64(len(value))
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return services.Errorf(services.Unavailable, "the producer is closed")
	}
	if !p.reserve(n) {
		return services.Errorf(services.Exhausted, "the buffer is full: %d events wait for the broker", p.records.Load()).
			WithRemedy("see whether the region's kafka instance is up")
	}
	r := &kgo.Record{Topic: topic, Key: []byte(key), Value: value}
	telemetry.Propagator.Inject(ctx, headers{r})
	p.pending.Add(1)
	p.client.TryProduce(context.WithoutCancel(ctx), r, func(_ *kgo.Record, err error) {
		defer p.pending.Done()
		p.records.Add(-1)
		p.bytes.Add(-n)
		if err != nil {
			p.produced.WithLabelValues(topic, "failed").Inc()
			p.cfg.Tel.Log.Warn("event lost", "topic", topic, "key", key, "error", err)
			return
		}
		p.produced.WithLabelValues(topic, "ok").Inc()
	})
	return nil
}

// reserve takes room for an event of n bytes, if there is any.
func (p *Producer) reserve(n int64) bool {
	if p.records.Add(1) <= p.cfg.MaxRecords {
		if p.bytes.Add(n) <= p.cfg.MaxBytes {
			return true
		}
		p.bytes.Add(-n)
	}
	p.records.Add(-1)
	return false
}

// Flush waits until everything buffered has arrived or failed, or ctx ends.
func (p *Producer) Flush(ctx context.Context) error {
	if err := p.client.Flush(ctx); err != nil {
		return &services.Error{Op: "events.Flush", Kind: services.Unavailable, Msg: "events are still waiting for the broker", Err: err}
	}
	return nil
}

// Close drops what is still buffered, counts it as failed and ends the
// connections. Flush first to keep it.
func (p *Producer) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.client.Close()
	p.pending.Wait()
}

// headers carry trace context in a record.
type headers struct{ r *kgo.Record }

// Get is propagation.TextMapCarrier's.
func (h headers) Get(key string) string {
	for _, x := range h.r.Headers {
		if x.Key == key {
			return string(x.Value)
		}
	}
	return ""
}

// Set is propagation.TextMapCarrier's.
func (h headers) Set(key, value string) {
	h.r.Headers = append(h.r.Headers, kgo.RecordHeader{Key: key, Value: []byte(value)})
}

// Keys is propagation.TextMapCarrier's.
func (h headers) Keys() []string {
	keys := make([]string, len(h.r.Headers))
	for i, x := range h.r.Headers {
		keys[i] = x.Key
	}
	return keys
}

// counterVec registers counters, or returns those that another client of the
// instance has registered already.
func counterVec(r prometheus.Registerer, name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	var known prometheus.AlreadyRegisteredError
	if err := r.Register(v); errors.As(err, &known) {
		if old, ok := known.ExistingCollector.(*prometheus.CounterVec); ok {
			return old
		}
	}
	return v
}
