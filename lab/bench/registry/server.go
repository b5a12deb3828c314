package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/flix-lab/flix/services/registry/original"
)

// server is a registry that can be run.
type server interface {
	name() string
	// command runs it on a port.
	command(ctx context.Context, port int) *exec.Cmd
}

type flixServer struct{ path string }

func (flixServer) name() string { return "flix" }

func (f flixServer) command(ctx context.Context, port int) *exec.Cmd {
	return exec.CommandContext(ctx, f.path, "serve", "registry", "--listen", fmt.Sprintf("127.0.0.1:%d", port), "--delta-retention", retention.String())
}

type originalServer struct{ classpath string }

func newOriginal(ctx context.Context) (server, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	classpath, err := original.Build(ctx, filepath.Join(cache, "flix-test"))
	return originalServer{classpath}, err
}

func (originalServer) name() string { return "Eureka 1.10.18" }

func (o originalServer) command(ctx context.Context, port int) *exec.Cmd {
	// A server's list of peers names itself, and it leaves itself out by its
	// machine's name: by another it would replicate to itself.
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	own := fmt.Sprintf("http://%s:%d/eureka/v2/", host, port)
	cmd := original.Command(ctx, o.classpath, "1g", original.Server, strconv.Itoa(port), own, "true",
		fmt.Sprintf("eureka.retentionTimeInMSInDeltaQueue=%d", retention.Milliseconds()), "eureka.deltaRetentionTimerIntervalInMs=1000",
		"eureka.responseCacheUpdateIntervalMs=30000", "org.slf4j.simpleLogger.defaultLogLevel=error")
	return cmd
}

// process is a server that runs.
type process struct {
	cmd   *exec.Cmd
	in    io.Closer
	base  string
	ended chan struct{}
}

// start runs a server and waits until it answers.
func start(ctx context.Context, s server) (*process, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	p := &process{cmd: s.command(ctx, port), base: fmt.Sprintf("http://127.0.0.1:%d/eureka/v2", port), ended: make(chan struct{})}
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.in = in
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stderr = p.cmd.Stdout
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	var last string
	go func() {
		defer close(p.ended)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			last = sc.Text()
		}
		_ = p.cmd.Wait() // it is told to end
	}()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		resp, err := http.Get(p.base + "/apps")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return p, nil
			}
		}
		select {
		case <-p.ended:
			return nil, fmt.Errorf("it ended: %s", last)
		case <-ctx.Done():
			p.stop()
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	p.stop()
	return nil, errors.New("it does not answer within two minutes")
}

func (p *process) stop() {
	_ = p.in.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// ticks is Linux's USER_HZ, which /proc counts processor time in.
const ticks = 100

// cpu is the processor time it has used, in seconds.
func (p *process) cpu() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), ") ") // the name may hold anything
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc: %q", b)
	}
	user, err := strconv.ParseFloat(f[11], 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseFloat(f[12], 64)
	return (user + system) / ticks, err
}

// memory is its resident set, in MiB.
func (p *process) memory() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")), 64)
			return kb / 1024, err
		}
	}
	return 0, errors.New("/proc: no VmRSS")
}
