package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/flix-lab/flix/services/lookup"
	"github.com/flix-lab/flix/services/lookup/eureka"
	"github.com/flix-lab/flix/topology"
)

// figures of one turn.
type figures struct {
	// register: instances a second, and processor time of it in µs each.
	registerRate, registerCPU float64
	// steady load: cores used, MiB, requests answered a second, and failed in all.
	cores, memory, rate float64
	failed              int
	// latencies in ms, by kind.
	renew, delta, full []float64
	deltaBytes         []float64
	fullBytes          []float64
	// lookups in flix's own client: ns and allocations each; 0 if not measured.
	lookupNS, lookupAllocs float64
}

// workers bound the requests under way.
const workers = 32

// job is one request.
type job struct {
	kind, method, path string
	body               []byte
}

// load sends jobs and keeps their latencies.
type load struct {
	base string
	http *http.Client

	mu    sync.Mutex
	ms    map[string][]float64
	bytes map[string][]float64
	bad   int
	err   error
}

func measure(ctx context.Context, s server, c config, lookups bool) (f figures, err error) {
	p, err := start(ctx, s)
	if err != nil {
		return f, err
	}
	defer p.stop()
	tr := &http.Transport{MaxIdleConnsPerHost: workers, MaxConnsPerHost: workers, DisableCompression: true}
	defer tr.CloseIdleConnections()
	newLoad := func() *load {
		return &load{base: p.base, http: &http.Client{Transport: tr, Timeout: 30 * time.Second}, ms: map[string][]float64{}, bytes: map[string][]float64{}}
	}
	jobs := make([]job, c.instances)
	for n := range jobs {
		jobs[n] = registration(c, n)
	}
	before, err := p.cpu()
	if err != nil {
		return f, err
	}
	begun, l := time.Now(), newLoad()
	l.run(ctx, jobs, 0)
	if l.bad > 0 {
		return f, fmt.Errorf("%d of %d registrations failed: %w", l.bad, len(jobs), l.err)
	}
	after, err := p.cpu()
	if err != nil {
		return f, err
	}
	f.registerRate = float64(c.instances) / time.Since(begun).Seconds()
	f.registerCPU = (after - before) / float64(c.instances) * 1e6
	if err := sleep(ctx, retention+2*time.Second); err != nil { // the delta drains
		return f, err
	}
	l = newLoad()
	if before, err = p.cpu(); err != nil {
		return f, err
	}
	begun = time.Now()
	steady := steadyJobs(c)
	l.run(ctx, steady, c.steady)
	took := time.Since(begun).Seconds()
	if after, err = p.cpu(); err != nil {
		return f, err
	}
	f.cores, f.rate, f.failed = (after-before)/took, float64(len(steady)-l.bad)/took, l.bad
	if f.memory, err = p.memory(); err != nil {
		return f, err
	}
	f.renew, f.delta, f.full = l.ms["renew"], l.ms["delta"], l.ms["full"]
	f.deltaBytes, f.fullBytes = l.bytes["delta"], l.bytes["full"]
	if lookups {
		err = f.lookup(ctx, p.base)
	}
	return f, errors.Join(err, ctx.Err())
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func appOf(c config, n int) string { return fmt.Sprintf("APP-%03d", n%c.apps) }

func idOf(n int) string { return fmt.Sprintf("host-%05d:8080", n) }

func registration(c config, n int) job {
	app := appOf(c, n)
	in := &eureka.Instance{
		InstanceID: idOf(n), HostName: fmt.Sprintf("host-%05d.example", n), App: app, IPAddr: fmt.Sprintf("10.%d.%d.%d", n>>16&255, n>>8&255, n&255),
		Status: "UP", OverriddenStatus: "UNKNOWN", Port: eureka.Port{Number: 8080, Enabled: true}, SecurePort: eureka.Port{Number: 443}, CountryID: 1,
		DataCenter: eureka.DataCenter{Name: "MyOwn"}, Lease: &eureka.Lease{RenewalSecs: 30, DurationSecs: 90},
		Metadata: eureka.Metadata{"zone": string(rune('a' + n%3)), "version": "1.2.3"}, VIP: app, SecureVIP: app,
		HomePageURL: "http://host.example:8080/", StatusPageURL: "http://host.example:8080/info", HealthCheckURL: "http://host.example:8080/health",
		LastDirty: 1, LastUpdated: 1,
	}
	return job{"register", http.MethodPost, "/apps/" + app, eureka.AppendDocument(nil, in, eureka.Form{})}
}

// steadyJobs mixes the requests of the run evenly.
func steadyJobs(c config) []job {
	secs := c.steady.Seconds()
	beats := int(float64(c.instances) / c.interval.Seconds() * secs)
	var out []job
	fulls, changes := int(float64(c.fulls)*secs), int(float64(c.changes)*secs)
	every := func(n, total, i int) bool { return total > 0 && i*total/n != (i+1)*total/n }
	for i := range beats {
		n := i % c.instances
		out = append(out,
			job{kind: "renew", method: http.MethodPut, path: "/apps/" + appOf(c, n) + "/" + idOf(n) + "?status=UP&lastDirtyTimestamp=1"},
			job{kind: "delta", method: http.MethodGet, path: "/apps/delta"})
		if every(beats, fulls, i) {
			out = append(out, job{kind: "full", method: http.MethodGet, path: "/apps"})
		}
		if every(beats, changes, i) {
			status := []string{"OUT_OF_SERVICE", "UP"}[i&1]
			out = append(out, job{kind: "change", method: http.MethodPut, path: "/apps/" + appOf(c, n) + "/" + idOf(n) + "/status?value=" + status})
		}
	}
	return out
}

// run sends the jobs evenly over a time, or as fast as they are answered for 0.
func (l *load) run(ctx context.Context, jobs []job, over time.Duration) {
	ch := make(chan job)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for j := range ch {
				l.send(ctx, j)
			}
		})
	}
	begun := time.Now()
	for i, j := range jobs {
		if wait := time.Until(begun.Add(over * time.Duration(i) / time.Duration(len(jobs)))); wait > time.Millisecond {
			if sleep(ctx, wait) != nil {
				break
			}
		}
		ch <- j
	}
	close(ch)
	wg.Wait()
}

func (l *load) send(ctx context.Context, j job) {
	begun := time.Now()
	n, err := l.once(ctx, j)
	took := float64(time.Since(begun).Microseconds()) / 1000
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.bad++
		l.err = err
		return
	}
	l.ms[j.kind] = append(l.ms[j.kind], took)
	l.bytes[j.kind] = append(l.bytes[j.kind], float64(n))
}

func (l *load) once(ctx context.Context, j job) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, j.method, l.base+j.path, bytes.NewReader(j.body))
	if err != nil {
		return 0, err
	}
	// As the original's client asks.
	req.Header.Set("Accept", eureka.JSON)
	req.Header.Set("Accept-Encoding", "gzip")
	req.Header.Set("DiscoveryIdentity-Name", "DefaultClient")
	if j.body != nil {
		req.Header.Set("Content-Type", eureka.JSON)
	}
	resp, err := l.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s", j.method, j.path, resp.Status)
	}
	return n, err
}

// lookup measures a lookup in flix's client, with a copy of what is registered.
func (f *figures) lookup(ctx context.Context, base string) error {
	ctx, cancel := context.WithCancel(ctx)
	c := lookup.New(lookup.Config{Registry: func() []string { return []string{base} }, Timing: topology.ProductionTiming()})
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	defer func() { cancel(); <-done }()
	short, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	if _, err := c.Wait(short, "app-001", 1); err != nil {
		return err
	}
	r := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if len(c.VIP("app-001")) == 0 {
				b.Fatal("nothing is up")
			}
		}
	})
	f.lookupNS, f.lookupAllocs = float64(r.T.Nanoseconds())/float64(max(1, r.N)), float64(r.AllocsPerOp())
	return nil
}
