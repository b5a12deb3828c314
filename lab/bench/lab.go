package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// lab is a flix with a state folder of its own.
type lab struct {
	flix, work string
}

// upReport is what is read of "flix lab up -o json".
type upReport struct {
	Instances int     `json:"instances"`
	ReadyMS   float64 `json:"ready_ms"`
	Steps     []struct {
		Name string  `json:"name"`
		MS   float64 `json:"ms"`
	} `json:"steps"`
}

// flixTimed runs flix and returns the milliseconds it took.
func (l lab) flixTimed(ctx context.Context, args ...string) (float64, []byte, error) {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "XDG_") || strings.HasPrefix(v, "TMPDIR=") || strings.HasPrefix(v, "OTEL_")
	})
	return timed(ctx, append(env, "XDG_STATE_HOME="+l.work, "TMPDIR="+l.work), l.flix, args...)
}

func (l lab) flixJSON(ctx context.Context, v any, args ...string) (float64, error) {
	ms, out, err := l.flixTimed(ctx, args...)
	if err != nil {
		return ms, err
	}
	if err := json.Unmarshal(out, v); err != nil {
		return ms, fmt.Errorf("flix %s: %w", strings.Join(args, " "), err)
	}
	return ms, nil
}

// clean takes down what a failed run left and removes the state folder.
func (l lab) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var err error
	if left, _ := filepath.Glob(filepath.Join(l.work, "flix", "labs", "*")); len(left) > 0 {
		_, _, err = l.flixTimed(ctx, "lab", "down")
	}
	return errors.Join(err, os.RemoveAll(l.work))
}

// timed runs a command to its end; the error carries what it said.
func timed(ctx context.Context, env []string, name string, args ...string) (float64, []byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &stdout, &stderr
	began := time.Now()
	err := cmd.Run()
	ms := milliseconds(time.Since(began))
	if err != nil {
		return ms, nil, fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, stderr.Bytes())
	}
	return ms, stdout.Bytes(), nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// pss sums up the proportional set sizes of the lab's processes in MiB, as the
// kernel counts them.
func (l lab) pss() (float64, error) {
	kb, err := l.sum("smaps_rollup", readPSS)
	return kb / 1024, err
}

// cpu sums up the CPU seconds that the lab's processes have used.
func (l lab) cpu() (float64, error) {
	ticks, err := l.sum("stat", readTicks)
	return ticks / ticksPerSecond, err
}

// idleCPU is what the lab uses of a processor while nothing is asked of it, in
// CPU seconds per minute, measured over a time.
func (l lab) idleCPU(ctx context.Context, over time.Duration) (float64, error) {
	before, err := l.cpu()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(over):
	}
	after, err := l.cpu()
	return (after - before) / time.Since(began).Minutes(), err
}

// sum adds up what read finds in a file of /proc of each of the lab's
// processes.
func (l lab) sum(file string, read func(text string) (float64, error)) (float64, error) {
	cmdlines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	var sum float64
	for _, name := range cmdlines {
		line, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(line, []byte("--lab-dir\x00"+l.work+"/")) {
			continue // gone meanwhile, or somebody else's
		}
		name = filepath.Join(filepath.Dir(name), file)
		text, err := os.ReadFile(name)
		if err != nil {
			return 0, err
		}
		v, err := read(string(text))
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		sum += v
	}
	if sum == 0 {
		return 0, fmt.Errorf("no process of the lab in %s is found in /proc", l.work)
	}
	return sum, nil
}

// ticksPerSecond is USER_HZ, in which Linux counts a process's time for us on
// every architecture that Go has.
const ticksPerSecond = 100

// readTicks adds up utime and stime, the 14th and 15th field of the text of
// stat. The second field is the program's name and may hold anything.
func readTicks(text string) (float64, error) {
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(f) < 13 {
		return 0, fmt.Errorf("there are no times in %q", text)
	}
	user, err := strconv.ParseFloat(f[11], 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseFloat(f[12], 64)
	return user + system, err
}

// readPSS finds the kB of Pss in the text of smaps_rollup.
func readPSS(text string) (float64, error) {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Pss:" && f[2] == "kB" {
			return strconv.ParseFloat(f[1], 64)
		}
	}
	return 0, fmt.Errorf("there is no Pss in %q", text)
}

// exchangeBytes is about what a viewer gets of the lowest rung to start with.
const exchangeBytes = 32 << 10

// exchange is the reference of the play delay: one HTTPS request, TLS 1.3 on a
// connection of its own, to Go's own server in this process, in milliseconds.
// A play makes several of them, one after the other, on connections of its own.
func exchange(ctx context.Context) (float64, error) {
	body := make([]byte, exchangeBytes)
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }))
	defer srv.Close()
	tr := srv.Client().Transport.(*http.Transport).Clone()
	tr.TLSClientConfig.MinVersion = tls.VersionTLS13
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	res, err := tr.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, res.Body); err != nil || n != exchangeBytes {
		return 0, fmt.Errorf("read %d bytes of %d: %w", n, exchangeBytes, err)
	}
	return milliseconds(time.Since(began)), nil
}
