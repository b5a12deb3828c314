package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"time"

	"github.com/flix-lab/flix/services/evcache"
	"github.com/flix-lab/flix/services/telemetry"
)

// server is a memcached to measure on.
type server struct {
	name string
	// start returns its address, and what ends it.
	start func(ctx context.Context) (addr string, end func() error, err error)
}

var errNoBinary = errors.New("memcached is not on PATH, so the real one is not measured: apt-get install memcached")

func servers() []server { return []server{{"memcached", startMemcached}, {"embedded", startEmbedded}} }

// startEmbedded runs the embedded server in this process. It shares the
// collector with both clients, so figures that matter are the other's.
func startEmbedded(ctx context.Context) (string, func() error, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	s, err := evcache.NewServer(evcache.ServerConfig{Listener: ln, Tel: telemetry.Discard()})
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	return ln.Addr().String(), func() error { cancel(); return <-done }, nil
}

// readyTime bounds the start of memcached.
const readyTime = 5 * time.Second

func startMemcached(ctx context.Context) (string, func() error, error) {
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
	cmd := exec.Command(path, "-u", "nobody", "-l", "127.0.0.1", "-p", port, "-m", "64", "-t", "2", "-U", "0")
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	end := func() error {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	for {
		c, err := (&net.Dialer{}).DialContext(wait, "tcp", addr)
		if err == nil {
			return addr, end, c.Close()
		}
		select {
		case <-wait.Done():
			return "", nil, errors.Join(fmt.Errorf("it does not answer on %s: %w", addr, err), end())
		case <-time.After(5 * time.Millisecond):
		}
	}
}
