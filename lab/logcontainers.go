package lab

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flix-lab/flix/lab/runtime/containers"
)

// containerTail reads the logs of a lab's containers.
type containerTail struct {
	lab *Lab
	rt  *containers.Runtime
	o   LogOptions

	// last is when the last line of a container that was read came.
	mu   sync.Mutex
	last map[string]time.Time
	open map[string]bool

	// lines come from the containers that are followed.
	lines  chan LogLine
	ctx    context.Context // of the followers
	cancel context.CancelFunc
	wg     sync.WaitGroup
	looked time.Time
}

// containerLogs returns the logs of the lab's containers; nil for a lab that
// has none, or when only events are asked for.
func containerLogs(ctx context.Context, env Env, p Paths, o LogOptions) (*containerTail, error) {
	i, err := readIntent(p.Dir)
	if err != nil || i == nil || i.Runtime != ContainersRuntime || o.Instance == eventSource {
		return nil, err
	}
	l, err := look(ctx, env, p)
	if err != nil {
		return nil, err
	}
	return &containerTail{lab: l, rt: l.rt.(*containers.Runtime), o: o, last: map[string]time.Time{}, open: map[string]bool{}, lines: make(chan LogLine, followed)}, nil
}

// close ends what is followed and waits for it.
func (t *containerTail) close() {
	if t.cancel != nil {
		t.cancel()
	}
	t.wg.Wait()
	_ = t.lab.unlook() // nothing was written
}

// sources lists the containers that may write what is asked for.
func (t *containerTail) sources(ctx context.Context) ([]containers.LogSource, error) {
	all, err := t.rt.LogSources(ctx)
	return slices.DeleteFunc(all, func(s containers.LogSource) bool { return !writes(s, t.o.Instance) }), err
}

// writes says whether a container may write lines of the wanted instances: a
// host's own lines are under "serve/" and its name, a store's sidecar writes in
// the agent.
func writes(s containers.LogSource, want string) bool {
	if matches(s.Name, want) || matches("serve/"+s.Name, want) || slices.ContainsFunc(s.Instances, func(id string) bool { return matches(id, want) }) {
		return true
	}
	region, _, _ := strings.Cut(want, "/")
	return s.Agent && region == s.Region
}

// history opens the logs as they are now.
func (t *containerTail) history(ctx context.Context) ([]logLines, error) {
	ss, err := t.sources(ctx)
	if err != nil {
		return nil, err
	}
	var out []logLines
	for _, s := range ss {
		l, err := t.rt.OpenLog(ctx, s, t.o.Since, false)
		if err != nil {
			for _, o := range out {
				err = errors.Join(err, o.Close())
			}
			return nil, err
		}
		out = append(out, &containerLines{l, s, t})
	}
	return out, nil
}

// containerLines is the log of one container.
type containerLines struct {
	*containers.LogStream
	source containers.LogSource
	tail   *containerTail
}

func (c *containerLines) next() (LogLine, error) {
	for {
		at, b, err := c.Next()
		if err != nil {
			return LogLine{}, err
		}
		c.tail.mu.Lock()
		c.tail.last[c.source.Container] = at
		c.tail.mu.Unlock()
		if !c.source.Text {
			if l, ok := parseLog(b); ok {
				return l, nil
			}
		}
		if l, ok := textLine(at, c.source.Name, b); ok {
			return l, nil
		}
	}
}

// followed is how many lines may wait between two looks; then the containers'
// streams wait.
const followed = 4096

// lookAgain is how often new containers are looked for.
const lookAgain = 500 * time.Millisecond

// fresh returns the lines that came since the last look, and begins to follow
// containers that were not there, or did not run, before.
func (t *containerTail) fresh(ctx context.Context) (logLines, error) {
	if time.Since(t.looked) > lookAgain {
		if err := t.followAll(ctx); err != nil && ctx.Err() == nil {
			return nil, err
		}
		t.looked = time.Now()
	}
	var got batch
	for range followed {
		select {
		case l := <-t.lines:
			got = append(got, l)
			continue
		default:
		}
		break
	}
	slices.SortStableFunc(got, func(a, b LogLine) int { return a.Time.Compare(b.Time) })
	return &got, nil
}

func (t *containerTail) followAll(ctx context.Context) error {
	ss, err := t.sources(ctx)
	if err != nil {
		return err
	}
	if t.cancel == nil {
		t.ctx, t.cancel = context.WithCancel(ctx)
	}
	for _, s := range ss {
		t.mu.Lock()
		busy, since := t.open[s.Container], t.last[s.Container]
		t.open[s.Container] = busy || s.Running
		t.mu.Unlock()
		if busy || !s.Running {
			continue
		}
		if since.IsZero() {
			since = t.o.Since
		} else {
			since = since.Add(time.Nanosecond) // the engine's since is inclusive
		}
		t.wg.Go(func() { t.followOne(t.ctx, s, since) })
	}
	return nil
}

// followOne passes a container's lines on until it ends.
func (t *containerTail) followOne(ctx context.Context, s containers.LogSource, since time.Time) {
	defer func() {
		t.mu.Lock()
		t.open[s.Container] = false
		t.mu.Unlock()
	}()
	l, err := t.rt.OpenLog(ctx, s, since, true)
	if err != nil {
		return // the next look tells, unless the container has just gone
	}
	defer l.Close()
	lines := &containerLines{l, s, t}
	for {
		line, err := lines.next()
		if err != nil {
			return
		}
		select {
		case t.lines <- line:
		case <-ctx.Done():
			return
		}
	}
}

// batch is lines that are at hand.
type batch []LogLine

func (b *batch) next() (LogLine, error) {
	if len(*b) == 0 {
		return LogLine{}, io.EOF
	}
	l := (*b)[0]
	*b = (*b)[1:]
	return l, nil
}

// Close implements logLines.
func (*batch) Close() error { return nil }
