// Package transcode turns an original in the object store into a published
// title: inspect, encode, package, verify, upload, publish. Each step is
// idempotent and its end is stored before the next begins, so that a job goes
// on where it was after the instance was killed, or on another instance of the
// region once the first has been silent for a lease.
//
// It trusts nothing about an original: ffmpeg runs confined (see package
// media), and what it made is read back, checked and decoded before anybody
// may see it. It runs one job at a time and never deletes an original.
package transcode

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/media"
	"github.com/flix-lab/flix/services/objects"
	"github.com/flix-lab/flix/services/resilience"
	"github.com/flix-lab/flix/services/rpc"
	"github.com/flix-lab/flix/services/search"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/transcode/transcodepb"
	"github.com/flix-lab/flix/topology"
)

// Objects is the region's object store; *objects.Client is one.
type Objects interface {
	EnsureBucket(ctx context.Context, bucket string) error
	// Get reads an object to its end when length is 0.
	Get(ctx context.Context, bucket, key string, offset, length int64) (io.ReadCloser, error)
	// PutFile stores an open file, whole or not at all; idempotent.
	PutFile(ctx context.Context, bucket, key string, f *os.File, contentType string) (objects.Info, error)
}

// Events takes what is to be told to the stream pipeline.
type Events interface {
	Send(ctx context.Context, topic, key string, event any) error
}

// Deps is what an instance needs.
type Deps struct {
	// RPC is the bound listener of the gRPC service.
	RPC net.Listener
	// Region and Instance say where jobs belong and who works on one.
	Region, Instance string
	// Dir is scratch space of this instance alone; it may vanish between runs.
	Dir string
	// Objects is the region's object store.
	Objects Objects
	// KV keeps the jobs.
	KV kv.Store
	// Publish makes an asset known to cache control, which fills it.
	Publish func(ctx context.Context, a *cachecontrolpb.Asset) error
	// PutTitle stores the title's row and drops cached copies of it.
	PutTitle func(ctx context.Context, t sqldb.Title) error
	// IndexTitle makes the title searchable in this region.
	IndexTitle func(ctx context.Context, d search.Doc) error
	// Events takes the title's event.
	Events Events
	// Commands is the instance's group of commands; nil makes one.
	Commands *resilience.Group
	// FFmpeg finds the executable; it fails with services.ReasonNoFFmpeg when
	// there is none. ffprobe must lie beside it.
	FFmpeg func() (string, error)
	// Tel are the instance's instruments.
	Tel *telemetry.Telemetry
	// Timing gives the heartbeat (LeaseRenewal), the silence after which
	// another instance takes a job over (LeaseDuration), and RPCTimeout.
	Timing topology.Timing
}

// Server is one instance of the role.
type Server struct {
	transcodepb.UnimplementedTranscodeServer
	d       Deps
	rpc     *rpc.Server
	metrics *metrics
	// commands guard the store of jobs.
	commands commands
	// stopping is closed when Serve ends: streams then end too.
	stopping chan struct{}
	// wake tells the worker that there may be work.
	wake chan struct{}

	mu      sync.Mutex
	current *job          // the job being worked on; replaced, never changed
	changed chan struct{} // closed and replaced when current changes
}

type metrics struct {
	jobs    *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	running prometheus.Gauge
}

func newMetrics(r *prometheus.Registry) *metrics {
	m := &metrics{
		jobs:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "transcode_jobs_total", Help: "Jobs that ended, by result."}, []string{"result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "transcode_step_seconds", Help: "Time of a step of a job.", Buckets: prometheus.ExponentialBuckets(0.01, 4, 10)}, []string{"step"}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{Name: "transcode_running", Help: "Jobs being worked on by this instance."}),
	}
	r.MustRegister(m.jobs, m.seconds, m.running)
	return m
}

// New makes an instance. It touches neither the disk nor the network.
func New(d Deps) (*Server, error) {
	switch {
	case d.RPC == nil || d.Objects == nil || d.KV == nil || d.Events == nil || d.Tel == nil:
		return nil, services.Errorf(services.Internal, "transcode: RPC, Objects, KV, Events and Tel are needed")
	case d.Publish == nil || d.PutTitle == nil || d.IndexTitle == nil || d.FFmpeg == nil:
		return nil, services.Errorf(services.Internal, "transcode: Publish, PutTitle, IndexTitle and FFmpeg are needed")
	case d.Region == "" || d.Instance == "" || d.Dir == "":
		return nil, services.Errorf(services.Internal, "transcode: Region, Instance and Dir are needed")
	case d.Timing.LeaseRenewal <= 0 || d.Timing.LeaseDuration <= d.Timing.LeaseRenewal || d.Timing.RPCTimeout <= 0:
		return nil, services.Errorf(services.Internal, "transcode: LeaseRenewal, LeaseDuration and RPCTimeout must be positive")
	}
	cs := newCommands(&d)
	s := &Server{
		d: d, commands: cs, rpc: rpc.New("transcode", d.Tel), metrics: newMetrics(d.Tel.Metrics),
		stopping: make(chan struct{}), wake: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	transcodepb.RegisterTranscodeServer(s.rpc, s)
	return s, nil
}

// Serve implements services.Unit. A job in progress is left as it is stored;
// it goes on at the next start.
func (s *Server) Serve(ctx context.Context) error {
	var wg sync.WaitGroup
	work, stop := context.WithCancel(ctx)
	wg.Go(func() { s.work(work) })
	defer context.AfterFunc(ctx, func() { close(s.stopping) })()
	err := s.rpc.Serve(ctx, s.d.Timing.RPCTimeout.D(), s.d.RPC) // unary calls are short, streams are told
	stop()
	wg.Wait()
	return err
}

// tools finds ffmpeg and ffprobe.
func (s *Server) tools() (media.Tools, error) {
	path, err := s.d.FFmpeg()
	if err != nil {
		return media.Tools{}, err
	}
	t := media.ToolsBeside(path)
	if _, err := os.Stat(t.FFprobe); err != nil {
		return media.Tools{}, services.Errorf(services.Unavailable, "transcode: no %s beside ffmpeg: %v", filepath.Base(t.FFprobe), err).
			WithReason(services.ReasonNoFFmpeg).WithRemedy("install the whole of ffmpeg (Debian: apt-get install ffmpeg)")
	}
	return t, nil
}

// show replaces the job that watchers see.
func (s *Server) show(j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = j
	close(s.changed)
	s.changed = make(chan struct{})
}

// shown returns the current job if it is the one asked for, and a channel
// that is closed at the next change of any.
func (s *Server) shown(id string) (*job, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil && s.current.ID == id {
		return s.current, s.changed
	}
	return nil, s.changed
}
