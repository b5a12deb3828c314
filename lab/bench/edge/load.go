package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"
)

// wrkResult is what wrk reports.
type wrkResult struct {
	requests  int
	perSecond float64
}

var (
	wrkRequests = regexp.MustCompile(`(\d+) requests in`)
	wrkRate     = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	wrkErrors   = regexp.MustCompile(`(?m)^\s*(Non-2xx.*|Socket errors.*)$`)
)

// wrk asks as fast as it can.
func wrk(ctx context.Context, c config, url string) (wrkResult, error) {
	out, err := exec.CommandContext(ctx, "wrk", "-t1", "-c"+strconv.Itoa(c.connections), "-d"+strconv.Itoa(int(c.span.Seconds()))+"s", url).Output()
	if err != nil {
		return wrkResult{}, fmt.Errorf("wrk: %w", err)
	}
	return parseWrk(string(out))
}

// parseWrk reads wrk's report. A report of errors is an error: a server that
// fails fast is not fast.
func parseWrk(out string) (r wrkResult, err error) {
	if e := wrkErrors.FindString(out); e != "" {
		return r, fmt.Errorf("wrk saw %s", e)
	}
	n, rate := wrkRequests.FindStringSubmatch(out), wrkRate.FindStringSubmatch(out)
	if n == nil || rate == nil {
		return r, fmt.Errorf("wrk says %q", out)
	}
	if r.requests, err = strconv.Atoi(n[1]); err != nil {
		return r, err
	}
	if r.perSecond, err = strconv.ParseFloat(rate[1], 64); err == nil && r.requests == 0 {
		err = errors.New("wrk got no answer")
	}
	return r, err
}

// latencies of many requests.
type latencies []time.Duration

// quantile by nearest rank.
func (l latencies) quantile(q float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	s := slices.Clone(l)
	slices.Sort(s)
	return s[min(int(q*float64(len(s))), len(s)-1)]
}

// offer asks at a constant rate, whatever the answers take: each connection has
// its own schedule, and a request that must wait for its turn counts from when
// it was due.
func offer(ctx context.Context, addr, path string, rate float64, connections int, span time.Duration) (latencies, error) {
	if rate <= 0 {
		return nil, errors.New("no rate to offer")
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		all   latencies
		errs  []error
		every = time.Duration(float64(connections) / rate * float64(time.Second))
		start = time.Now().Add(50 * time.Millisecond)
	)
	for k := range connections {
		wg.Go(func() {
			l, err := schedule(ctx, addr, path, start.Add(every*time.Duration(k)/time.Duration(connections)), every, span)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, l...)
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return all, errors.Join(errs...)
}

// schedule asks on one connection, at first and then every so often.
func schedule(ctx context.Context, addr, path string, first time.Time, every, span time.Duration) (latencies, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(first.Add(span + 30*time.Second))
	request := []byte("GET " + path + " HTTP/1.1\r\nHost: bench\r\n\r\n")
	r := bufio.NewReaderSize(c, 64<<10)
	l := make(latencies, 0, int(span/every)+1)
	for due := first; due.Before(first.Add(span)); due = due.Add(every) {
		if wait := time.Until(due); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return l, ctx.Err()
			}
		}
		if _, err := c.Write(request); err != nil {
			return l, err
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return l, err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return l, err
		}
		if resp.StatusCode != http.StatusOK {
			return l, fmt.Errorf("status %d", resp.StatusCode)
		}
		l = append(l, time.Since(due))
	}
	return l, nil
}
