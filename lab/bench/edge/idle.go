package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// settleTime is how long idle connections are left alone before their memory
// is read: a server may give buffers back and shrink stacks meanwhile.
const settleTime = 5 * time.Second

// measureIdle opens idle connections, each after one request, and notes what
// they cost.
func measureIdle(ctx context.Context, c config, ps *peers, t *table) error {
	all := ps.measured
	if ps.tls != nil {
		all = append(all[:len(all):len(all)], ps.tls)
	}
	for _, p := range all {
		fmt.Fprintf(os.Stderr, "\r%d idle connections: %-8s ", c.idle, p.name)
		bytes, err := idleBytes(ctx, c, p, p == ps.tls)
		if err != nil {
			return fmt.Errorf("%s: idle connections: %w", p.name, err)
		}
		t.add(p.name, 0, "idle", bytes/1024)
	}
	fmt.Fprint(os.Stderr, "\r\033[K")
	return nil
}

func idleBytes(ctx context.Context, c config, p *peer, secure bool) (float64, error) {
	var open []net.Conn
	defer func() {
		for _, o := range open {
			_ = o.Close()
		}
	}()
	conf := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}} //nolint:gosec // a certificate of our own, on loopback
	dial := func() error {
		nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.addr)
		if err != nil {
			return err
		}
		if secure {
			nc = tls.Client(nc, conf)
		}
		open = append(open, nc)
		_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
		return askOnce(nc)
	}
	// Some first: what the first connections cost is not theirs alone.
	for range 100 {
		if err := dial(); err != nil {
			return 0, err
		}
	}
	before, err := settled(ctx, p)
	if err != nil {
		return 0, err
	}
	for range c.idle {
		if err := dial(); err != nil {
			return 0, err
		}
	}
	after, err := settled(ctx, p)
	if err != nil {
		return 0, err
	}
	return float64(after-before) / float64(c.idle), nil
}

func settled(ctx context.Context, p *peer) (int64, error) {
	select {
	case <-time.After(settleTime):
		return p.rss()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// askOnce sends one request and reads its answer to the last byte.
func askOnce(nc net.Conn) error {
	if _, err := io.WriteString(nc, "GET /15 HTTP/1.1\r\nHost: bench\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(newReader(nc), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}
