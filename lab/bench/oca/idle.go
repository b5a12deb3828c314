package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// idleTargets in MiB, for 10,000 connections.
var idleTargets = map[string]float64{"plain": 100, "TLS": 300}

// settle is how long connections are left alone before memory is read.
const settle = 5 * time.Second

// idle opens many connections, makes one request on each, leaves them alone
// and prints the server's memory, and what it is when all ask again.
func (b *bench) idle(ctx context.Context) error {
	fmt.Fprintf(b.out, "\n%d idle keep-alive connections, each after one request\n", b.c.idle)
	for _, secure := range []bool{false, true} {
		name := "plain"
		if secure {
			name = "TLS"
		}
		s, err := b.startFlix(ctx, secure) // one that has served nothing else
		if err != nil {
			return err
		}
		before := s.proc.rss()
		conns, err := hold(ctx, s.url, b.c.idle)
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(settle):
		}
		after := s.proc.rss()
		if err := ask(ctx, conns); err != nil {
			return fmt.Errorf("a connection that was idle does not answer: %w", err)
		}
		again := s.proc.rss()
		for _, c := range conns {
			c.Close()
		}
		verdict := "met"
		if after > idleTargets[name] {
			verdict = "MISSED"
		}
		fmt.Fprintf(b.out, "  %-6s %.0f MiB resident (%.1f KiB each over the %.0f MiB without) ≤ %.0f %s; %.0f MiB right after all asked again\n",
			name, after, (after-before)*1024/float64(b.c.idle), before, idleTargets[name], verdict, again)
	}
	return nil
}

// hold opens connections and makes a request on each.
func hold(ctx context.Context, base string, n int) ([]net.Conn, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	conns := make([]net.Conn, n)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(64)
	for i := range conns {
		group.Go(func() error {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
			if err != nil {
				return err
			}
			if u.Scheme == "https" {
				c = tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}) //nolint:gosec // the bench's own certificate
			}
			conns[i] = c
			return request(c)
		})
	}
	return conns, group.Wait()
}

func ask(ctx context.Context, conns []net.Conn) error {
	group, _ := errgroup.WithContext(ctx)
	group.SetLimit(64)
	for _, c := range conns {
		group.Go(func() error { return request(c) })
	}
	return group.Wait()
}

// request asks for a small file and reads the answer.
func request(c net.Conn) error {
	if _, err := io.WriteString(c, "GET /index.json HTTP/1.1\r\nHost: bench\r\n\r\n"); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for n, want := 0, -1; want < 0 || n < want; {
		m, err := c.Read(buf[n:])
		if err != nil {
			return err
		}
		n += m
		if end := strings.Index(string(buf[:n]), "\r\n\r\n"); end >= 0 {
			want = end + 4 + files["index.json"]
		}
	}
	return nil
}
