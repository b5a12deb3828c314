package containers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// Exec is a command to run in a container, with what it is attached to.
type Exec struct {
	// Cmd and its arguments; no shell is between.
	Cmd []string
	// In may be nil: the command reads nothing then. Out and Err must not be.
	In       io.Reader
	Out, Err io.Writer
	// TTY gives the command a terminal; Err gets nothing then.
	TTY bool
	// Width and Height of the terminal at the start.
	Width, Height uint
	// Resized carries the terminal's later sizes (width, height); may be nil.
	Resized <-chan [2]uint
}

// Exec runs a command in the container of an instance and returns its exit
// code. It fails with NotFound when the container has no such command and with
// Conflict when it does not run. When ctx ends it stops listening: the engine
// has no way to end a command in a container.
func (r *Runtime) Exec(ctx context.Context, i topology.Instance, e Exec) (int, error) {
	c, err := r.runningContainer(ctx, i)
	if err != nil {
		return 0, err
	}
	made, err := r.docker.ExecCreate(ctx, c.container, client.ExecCreateOptions{
		Cmd: e.Cmd, TTY: e.TTY, AttachStdin: e.In != nil, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", i.ID, r.broken(err))
	}
	at, err := r.docker.ExecAttach(ctx, made.ID, client.ExecAttachOptions{TTY: e.TTY})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", i.ID, r.broken(err))
	}
	stop := context.AfterFunc(ctx, func() { _ = at.Conn.Close() })
	defer stop()
	defer at.Close()
	refused, err := r.attach(ctx, made.ID, at.HijackedResponse, e)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", i.ID, err)
	}
	end, err := r.ended(ctx, made.ID)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", i.ID, r.broken(err))
	}
	if refused != "" && end.PID == 0 { // it never ran
		return 0, notRun(c, i, e.Cmd[0], refused)
	}
	return end.ExitCode, nil
}

// runningContainer finds the container that an instance runs in.
func (r *Runtime) runningContainer(ctx context.Context, i topology.Instance) (found, error) {
	cs, err := r.find(ctx, filter{name: r.containerName(r.inside(i))})
	switch {
	case err != nil:
		return found{}, err
	case len(cs) == 0:
		return found{}, services.Errorf(services.Conflict, "%s has no container", i.ID).WithRemedy("make it: flix lab up")
	case !cs[0].running:
		return found{}, services.Errorf(services.Conflict, "the container of %s does not run (%s)", i.ID, cs[0].status).WithRemedy("start it: flix lab start %s", i.ID)
	}
	return cs[0], nil
}

// ended waits until the engine knows how a command ended: its output may end a
// moment before.
func (r *Runtime) ended(ctx context.Context, exec string) (client.ExecInspectResult, error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		end, err := r.docker.ExecInspect(ctx, exec, client.ExecInspectOptions{})
		if err != nil || !end.Running {
			return end, err
		}
		select {
		case <-ctx.Done():
			return end, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// attach copies between the command and what it is attached to until the
// command's output ends. It returns the engine's words when it says instead
// that the command cannot be run.
func (r *Runtime) attach(ctx context.Context, exec string, at client.HijackedResponse, e Exec) (refused string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	if e.TTY {
		wg.Go(func() { r.resize(ctx, exec, e) })
	}
	if e.In != nil {
		// Nobody waits for it: a read of a terminal cannot be called off.
		go func() {
			_, _ = io.Copy(at.Conn, e.In) // the command has ended: its exit code tells
			_ = at.CloseWrite()
		}()
	}
	first := &refusal{w: e.Out}
	if e.TTY {
		_, err = io.Copy(first, at.Reader)
	} else {
		_, err = stdcopy.StdCopy(first, e.Err, at.Reader)
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return first.text.String(), err
}

// sizeTime bounds the tries to tell a terminal's size: there is none until the
// command has begun, and none after it has ended.
const sizeTime = time.Second

// resize tells the engine the size of the terminal, at first and when it
// changes.
func (r *Runtime) resize(ctx context.Context, exec string, e Exec) {
	set := func(w, h uint) {
		if w == 0 || h == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, sizeTime)
		defer cancel()
		for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
			if _, err := r.docker.ExecResize(ctx, exec, client.ExecResizeOptions{Width: w, Height: h}); err == nil {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		}
	}
	set(e.Width, e.Height)
	for {
		select {
		case <-ctx.Done():
			return
		case s, ok := <-e.Resized:
			if !ok {
				return
			}
			set(s[0], s[1])
		}
	}
}

// refusalMark begins what the engine writes in place of a command's output when
// it cannot run it.
var refusalMark = []byte("OCI runtime exec failed: ")

// refusal holds the engine's refusal back from the output: it is told as an
// error.
type refusal struct {
	w       io.Writer
	decided bool
	text    bytes.Buffer
}

func (f *refusal) Write(p []byte) (int, error) {
	if !f.decided {
		f.decided = true
		if bytes.HasPrefix(p, refusalMark) {
			return f.text.Write(p)
		}
	}
	if f.text.Len() > 0 {
		return f.text.Write(p)
	}
	return f.w.Write(p)
}

// binPath is where flix lies in the images of its own.
const binPath = "/usr/local/bin/flix"

// notRun explains why the engine did not run a command.
func notRun(c found, i topology.Instance, cmd, why string) error {
	missing := strings.Contains(why, "not found") || strings.Contains(why, "no such file")
	switch {
	case missing && !c.store() && !slices.ContainsFunc(c.specs, func(s runtime.Spec) bool { return s.Role == topology.RoleTranscode }):
		return services.Errorf(services.NotFound, "there is no %q in the container of %s: it is made of nothing but flix", cmd, i.ID).
			WithRemedy("run flix itself there (flix lab exec %s -- %s version), or look from outside: flix lab logs %s", i.ID, binPath, i.ID)
	case missing:
		return services.Errorf(services.NotFound, "there is no %q in the container of %s", cmd, i.ID).WithRemedy("look what there is: flix lab exec %s -- ls /usr/bin /bin", i.ID)
	}
	return services.Errorf(services.Invalid, "%s: %q cannot be run: %s", i.ID, cmd, strings.TrimSpace(strings.TrimPrefix(why, string(refusalMark)))).WithRemedy("name a program that may be executed there")
}
