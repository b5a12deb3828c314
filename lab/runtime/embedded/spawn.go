package embedded

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// readyFD is the descriptor on which a spawned process says that it is ready.
const readyFD = 3

// Spawn starts this executable again as a process of its own session that
// outlives the caller, and waits until it says "ready" (see Readiness), it ends, or
// ctx ends. Its output goes to the log file. The error of a process that did
// not become ready is what it wrote instead.
func Spawn(ctx context.Context, exe, logFile string, env []string, args ...string) (Process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return Process{}, fmt.Errorf("spawn: %w", err)
	}
	defer r.Close()
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		w.Close()
		return Process{}, fmt.Errorf("spawn: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(exe, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = "/", append(slices.Clone(env), spawnedEnv+"=1"), log, log
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return Process{}, fmt.Errorf("spawn %s: %w", exe, err)
	}
	// Reap it whenever it ends, so that it leaves no zombie while we live.
	go func() { _ = cmd.Wait() }()
	p, ok := identify(cmd.Process.Pid)
	answer := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(bufio.NewReader(r)) // end of file is the process's end
		answer <- string(b)
	}()
	select {
	case a := <-answer:
		if a != "ready\n" {
			why := strings.TrimSpace(a)
			if why == "" {
				why = "it ended without a word"
			}
			return p, fmt.Errorf("%s did not start: %s (log: %s)", strings.Join(args[:1], " "), why, logFile)
		}
		if !ok {
			p, ok = identify(cmd.Process.Pid)
		}
		if !ok {
			return p, fmt.Errorf("%s ended as soon as it was ready (log: %s)", strings.Join(args[:1], " "), logFile)
		}
		return p, nil
	case <-ctx.Done():
		_ = p.Signal(syscall.SIGKILL)
		return p, ctx.Err()
	}
}

// spawnedEnv marks a process that has a ready descriptor.
const spawnedEnv = "FLIX_SPAWNED"

// Readiness is a spawned process's one word to the process that spawned it.
type Readiness struct {
	once sync.Once
	f    *os.File
}

// Spawned returns the readiness of this process. In one that Spawn did not
// start, telling it does nothing. Call it once, before anything is opened.
func Spawned(getenv func(string) string) *Readiness {
	if getenv(spawnedEnv) == "" {
		return &Readiness{}
	}
	return &Readiness{f: os.NewFile(readyFD, "ready")}
}

// Tell says that this process is ready, or why it is not; only the first call
// counts.
func (r *Readiness) Tell(failure error) {
	r.once.Do(func() {
		if r.f == nil {
			return
		}
		msg := "ready\n"
		if failure != nil {
			msg = failure.Error() + "\n"
		}
		_, _ = r.f.WriteString(msg) // the parent is gone: nobody waits
		_ = r.f.Close()
	})
}

// CloseInherited marks every descriptor above the ready one close-on-exec and
// is called first in a spawned process, lest a pipe of the shell that started
// the lab stays open for as long as the lab lives.
func CloseInherited() { _ = unix.CloseRange(readyFD+1, ^uint(0), unix.CLOSE_RANGE_CLOEXEC) }
