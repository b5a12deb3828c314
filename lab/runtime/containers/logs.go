package containers

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// LogSource is a container of the lab as one that writes a log.
type LogSource struct {
	// Container is the engine's id.
	Container string
	// Name is the instance's, agent's or pack's; Region is where it is.
	Name, Region string
	// Instances inside.
	Instances []string
	// Text says that a store writes it, a line of text at a time; flix's own
	// write JSON lines.
	Text bool
	// Agent says that it holds the sidecars of the region's stores.
	Agent   bool
	Running bool
}

// LogSources lists the lab's containers, running or not.
func (r *Runtime) LogSources(ctx context.Context) ([]LogSource, error) {
	cs, err := r.containers(ctx)
	if err != nil {
		return nil, err
	}
	var out []LogSource
	for _, c := range cs {
		if c.role == VolumeVerb {
			continue // it packs a volume and logs nothing
		}
		s := LogSource{Container: c.container, Name: c.id, Region: c.host, Text: c.store(), Running: c.running, Agent: c.role == roleAgent}
		for _, i := range c.specs {
			s.Instances = append(s.Instances, i.ID)
		}
		out = append(out, s)
	}
	return out, nil
}

// LogStream is the log of one container, in the order of its writing.
type LogStream struct {
	body io.Closer
	r    *bufio.Reader
}

// OpenLog opens the log of a container from a time on (zero: from its
// beginning). With follow it goes on until the container or ctx ends. The
// caller closes it. A container that is gone has an empty log.
func (r *Runtime) OpenLog(ctx context.Context, s LogSource, since time.Time, follow bool) (*LogStream, error) {
	o := client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Timestamps: true, Follow: follow}
	if !since.IsZero() {
		o.Since = since.UTC().Format(time.RFC3339Nano)
	}
	body, err := r.docker.ContainerLogs(ctx, s.Container, o)
	if errdefs.IsNotFound(err) {
		body, err = io.NopCloser(bytes.NewReader(nil)), nil
	}
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", s.Name, r.broken(err))
	}
	return &LogStream{body, bufio.NewReader(&frames{r: body})}, nil
}

// Next returns the next line and when the engine received it; io.EOF after the
// last.
func (l *LogStream) Next() (time.Time, []byte, error) {
	for {
		b, err := l.r.ReadBytes('\n')
		if len(b) == 0 || err != nil && !errors.Is(err, io.EOF) {
			return time.Time{}, nil, err
		}
		stamp, text, _ := bytes.Cut(bytes.TrimRight(b, "\r\n"), []byte{' '})
		at, perr := time.Parse(time.RFC3339Nano, string(stamp))
		if perr != nil {
			continue // the rest of a line that the engine cut in two
		}
		return at, text, nil
	}
}

// Close ends the stream.
func (l *LogStream) Close() error { return l.body.Close() }

// frames takes the engine's frames off a stream: eight bytes of which the last
// four are the length of what follows, in network order. Standard output and
// error come as they were written.
type frames struct {
	r    io.Reader
	left uint32
}

func (f *frames) Read(p []byte) (int, error) {
	for f.left == 0 {
		var head [8]byte
		if _, err := io.ReadFull(f.r, head[:]); err != nil {
			return 0, err
		}
		f.left = binary.BigEndian.Uint32(head[4:])
	}
	if uint32(min(len(p), 1<<20)) > f.left {
		p = p[:f.left]
	}
	n, err := f.r.Read(p)
	f.left -= uint32(n)
	return n, err
}
