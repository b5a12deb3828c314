package player

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

const (
	// maxReply bounds the body of an API answer, bytes.
	maxReply = 8 << 20
	// persistent is the number of attempts of a call that a play cannot do
	// without: with the waits of a lab some 13 s, longer than it takes a lab to
	// notice a lost region and to move DNS. brief is for one that can wait for
	// its next turn.
	persistent, brief = 12, 3
	// refusals is the number of times that an API which answers may say that
	// it cannot: unlike one that is out of reach, it knows.
	refusals = 5
)

// control is a connection of the client to the public API at one host. After
// a failure it goes to the next endpoint, and asks DNS again.
type control struct {
	host  string
	conn  *connector
	names *resolver
	// timeout of one attempt, and of one connect.
	timeout, connectTimeout time.Duration
	// wait before the second attempt, about, and the longest one.
	wait, waitMax time.Duration
	token         string

	transport transport
	// traced is the transport with a span for each request.
	traced http.RoundTripper
	// do makes a request.
	do func(*http.Request) (*http.Response, error)
	// turn rotates the endpoints.
	turn atomic.Uint32
}

// transport is an http.RoundTripper that keeps connections.
type transport interface {
	http.RoundTripper
	CloseIdleConnections()
}

// newControl makes a control that opens nothing. far is the round trip to the
// farthest region that may answer; a handshake takes three. A lean one keeps a
// single connection, over HTTP/1.1.
func newControl(host string, conn *connector, names *resolver, tel *telemetry.Telemetry, t topology.Timing, far time.Duration, lean bool) *control {
	rpc := t.RPCTimeout.D()
	c := &control{host: host, conn: conn, names: names, timeout: 4*rpc + 6*far, connectTimeout: rpc + 4*far, wait: t.RetryWait.D(), waitMax: t.RetryWaitMax.D()}
	if lean {
		c.transport = newLean(conn.bufs, func(ctx context.Context) (net.Conn, error) { return c.dial(ctx, "http/1.1") })
	} else {
		c.transport = &http.Transport{ForceAttemptHTTP2: true, DisableCompression: true,
			DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx, "h2", "http/1.1") }}
	}
	c.traced = tel.Transport(c.transport)
	c.do = asking(c.traced, lean)
	return c
}

// asking returns what makes requests over a transport: an http.Client, or, of a
// lean one, the transport itself. All that the client does more is of no use to a
// player: neither the API nor an appliance redirects, or sets a cookie.
func asking(t http.RoundTripper, lean bool) func(*http.Request) (*http.Response, error) {
	if lean {
		return t.RoundTrip
	}
	c := &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c.Do
}

// dial connects to the first endpoint that takes it.
func (c *control) dial(ctx context.Context, protocols ...string) (net.Conn, error) {
	addrs, err := c.names.edge(ctx, c.host)
	if err != nil {
		return nil, err
	}
	var errs []error
	first := int(c.turn.Load() % uint32(len(addrs)))
	for i := range addrs {
		ctx, cancel := context.WithTimeout(ctx, c.connectTimeout)
		conn, err := c.conn.tcp(ctx, addrs[(first+i)%len(addrs)])
		if err == nil {
			t, terr := c.conn.tls(ctx, conn, c.host, protocols...)
			if terr == nil {
				cancel()
				return t, nil
			}
			err = terr
		}
		cancel()
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// call makes a request with a JSON body and reads a JSON answer into out, both
// optional. It tries up to attempts times when it cannot reach the API or the
// API cannot serve; key makes that safe. A refusal comes back as its Error.
func (c *control) call(ctx context.Context, attempts int, method, path, key string, in, out any) (http.Header, error) {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	wait := c.wait
	refused := 0
	for attempt := 1; ; attempt++ {
		var (
			header http.Header
			again  bool
			err    error
		)
		c.conn.bufs.hands.apart(func() { header, again, err = c.once(ctx, method, path, key, body, out) })
		if header != nil {
			refused++
		}
		if err == nil || !again || attempt >= attempts || refused >= refusals || ctx.Err() != nil {
			return header, err
		}
		c.turnAway()
		if serr := sleep(ctx, wait/2+rand.N(wait)); serr != nil {
			return nil, errors.Join(serr, err)
		}
		wait = min(2*wait, c.waitMax)
	}
}

// turnAway has the next attempt go to another endpoint, which DNS is asked for
// again.
func (c *control) turnAway() {
	c.turn.Add(1)
	c.transport.CloseIdleConnections()
	c.names.forget(c.host)
}

// once makes one attempt; again says that another may help.
func (c *control) once(ctx context.Context, method, path, key string, body []byte, out any) (h http.Header, again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "https://"+c.host+path, bytes.NewReader(body))
	if err != nil {
		return nil, false, err
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.do(req)
	if err != nil {
		return nil, true, unreachable(method+" "+path, err)
	}
	defer resp.Body.Close()
	var reply []byte
	if out == nil && resp.StatusCode < http.StatusMultipleChoices {
		err = skip(resp.Body, maxReply)
	} else {
		reply, err = whole(resp.Body, resp.ContentLength, maxReply)
	}
	if err != nil {
		return nil, true, unreachable(method+" "+path, err)
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return resp.Header, resp.StatusCode >= http.StatusInternalServerError, problem(method+" "+path, resp.StatusCode, reply)
	}
	if out != nil {
		if err := json.Unmarshal(reply, out); err != nil {
			return nil, false, &services.Error{Op: method + " " + path, Kind: services.Internal, Msg: "the answer is not what the API promises", Err: err}
		}
	}
	return resp.Header, false, nil
}

// unreachable keeps the kind of an error that has one, e.g. of DNS.
func unreachable(op string, err error) error {
	var e *services.Error
	if errors.As(err, &e) {
		return services.Wrap(op, err)
	}
	return &services.Error{Op: op, Kind: services.Unavailable, Msg: "the API cannot be reached", Remedy: "flix lab status shows what runs", Err: err}
}

// problem turns an error answer back into the error it was.
func problem(op string, status int, body []byte) error {
	var p services.Problem
	if err := json.Unmarshal(body, &p); err == nil && p.Kind != "" {
		return p.Err()
	}
	return &services.Error{Op: op, Kind: services.KindFromHTTP(status), Msg: fmt.Sprintf("the answer is %d %s", status, http.StatusText(status))}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
