package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/flix-lab/flix/lab/bench/child"
	"github.com/flix-lab/flix/services/evcache"
	"github.com/flix-lab/flix/services/telemetry"
)

// server is a memcached to measure on.
type server struct {
	name string
	// start returns its address, and what ends it.
	start func(ctx context.Context) (addr string, end func(), err error)
}

var errNoBinary = errors.New("memcached is not on PATH, so the real one is not measured: apt-get install memcached")

func servers() []server { return []server{{"memcached", startMemcached}, {"embedded", startEmbedded}} }

// startEmbedded runs the embedded server in a process of its own, as a lab has
// it in another than its clients: this program, told to serve.
func startEmbedded(ctx context.Context) (string, func(), error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	cmd := child.Command(ctx, self, "-serve")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	end := func() { child.End(cmd) }
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		end()
		return "", nil, err
	}
	return strings.TrimSpace(addr), end, nil
}

// serve runs the embedded server until ctx ends, after it has told its address.
func serve(ctx context.Context, out io.Writer) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s, err := evcache.NewServer(evcache.ServerConfig{Listener: ln, Tel: telemetry.Discard()})
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	if _, err := fmt.Fprintln(out, ln.Addr()); err != nil {
		return errors.Join(err, ln.Close())
	}
	return s.Serve(ctx)
}

// readyTime bounds the start of memcached.
const readyTime = 5 * time.Second

func startMemcached(ctx context.Context) (string, func(), error) {
	path, err := exec.LookPath("memcached")
	if err != nil {
		return "", nil, errNoBinary
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	addr := ln.Addr().String()
	_, port, err := net.SplitHostPort(addr)
	if err = errors.Join(err, ln.Close()); err != nil {
		return "", nil, err
	}
	cmd := child.Command(ctx, path, "-u", "nobody", "-l", "127.0.0.1", "-p", port, "-m", "64", "-t", "2", "-U", "0")
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	end := func() { child.End(cmd) }
	wait, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	for {
		c, err := (&net.Dialer{}).DialContext(wait, "tcp", addr)
		if err == nil {
			return addr, end, c.Close()
		}
		select {
		case <-wait.Done():
			end()
			return "", nil, fmt.Errorf("it does not answer on %s: %w", addr, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
