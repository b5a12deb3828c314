package evcache

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/flix-lab/flix/services"
)

const (
	// maxDumpLine bounds a line of a server's list of keys.
	maxDumpLine = 4 << 10
	// dumpRetry is the pause before a server that lists its keys to somebody
	// else is asked again, dumpPatience how long it is asked at all.
	dumpRetry    = 50 * time.Millisecond
	dumpPatience = 30 * time.Second
)

// dumped is one line of a server's list of its keys.
type dumped struct {
	key  string // which the text protocol cannot name, if it is no lineKey
	exp  int64  // Unix seconds; -1: never
	size int64
}

// parseDumpLine reads "key=… exp=… la=… … size=…", the key in URL encoding.
func parseDumpLine(line string) (dumped, bool) {
	d := dumped{exp: -1}
	for w := range strings.FieldsSeq(line) {
		name, value, _ := strings.Cut(w, "=")
		var err error
		switch name {
		case "key":
			d.key, err = url.QueryUnescape(value)
		case "exp":
			d.exp, err = strconv.ParseInt(value, 10, 64)
		case "size":
			d.size, err = strconv.ParseInt(value, 10, 64)
		}
		if err != nil {
			return dumped{}, false
		}
	}
	return d, d.key != "" && len(d.key) <= maxKey
}

// dump lists the keys of a server ("lru_crawler metadump all", memcached
// 1.4.31) to f until f fails. It has a connection of its own; a server that is
// busy with another list is waited for, one that falls silent for longer than a
// write may take is not.
func (c *Client) dump(ctx context.Context, p *peer, f func(dumped) error) error {
	for end := time.Now().Add(dumpPatience); ; {
		err := c.dumpOnce(ctx, p, f)
		if !errors.Is(err, errDumpBusy) || time.Now().After(end) {
			return err
		}
		t := time.NewTimer(dumpRetry)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
}

var errDumpBusy error = services.Errorf(services.Exhausted, "the server lists its keys to somebody else")

func (c *Client) dumpOnce(ctx context.Context, p *peer, f func(dumped) error) error {
	dctx, cancel := context.WithTimeout(ctx, c.cfg.Timeouts.Dial)
	conn, err := c.cfg.Dial(dctx, "tcp", p.addr)
	cancel()
	if err != nil {
		return &services.Error{Kind: services.Unavailable, Msg: "cache server " + p.called, Err: err}
	}
	defer func() { _ = conn.Close() }() // nothing is in flight
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	patience := func() error { return conn.SetDeadline(time.Now().Add(c.cfg.Timeouts.Write)) }
	err = patience()
	if err == nil {
		_, err = io.WriteString(conn, "lru_crawler metadump all\r\n")
	}
	if err != nil {
		return &services.Error{Kind: services.Unavailable, Msg: "cache server " + p.called, Err: err}
	}
	r := bufio.NewReaderSize(conn, maxDumpLine)
	for {
		var b []byte
		if err = patience(); err == nil { // f may have taken longer than that
			b, err = r.ReadSlice('\n')
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return &services.Error{Kind: services.Unavailable, Msg: "cache server " + p.called + " broke its list of keys off", Err: err}
		}
		line := strings.TrimRight(string(b), "\r\n")
		switch {
		case line == "END":
			return nil
		case strings.HasPrefix(line, "BUSY"):
			return errDumpBusy
		case strings.HasPrefix(line, "key="):
		default:
			return services.Errorf(services.Unavailable, "cache server %s cannot list its keys: %.100s", p.called, line).WithRemedy("use memcached 1.6 with its LRU crawler on")
		}
		if d, ok := parseDumpLine(line); ok {
			if err := f(d); err != nil {
				return err
			}
		}
	}
}

// Stats reads the general-purpose statistics of a server, until ctx ends.
func Stats(ctx context.Context, dial services.DialFunc, addr string) (map[string]string, error) {
	c, err := dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }() // nothing is in flight
	if end, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(end); err != nil {
			return nil, err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	if _, err := io.WriteString(c, "stats\r\n"); err != nil {
		return nil, err
	}
	return readStats(bufio.NewReaderSize(c, connBuffer))
}
