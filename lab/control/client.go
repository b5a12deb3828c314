package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"

	"github.com/flix-lab/flix/services"
)

// Client talks to a lab's daemon.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient returns a client of the daemon on a unix socket; it does not
// connect yet.
func NewClient(socket string) *Client {
	return &Client{socket, &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}}}
}

// goneRemedy is what to do when the daemon ended in the middle of an answer.
const goneRemedy = "run the command again; flix lab up starts a new daemon"

// ErrNoDaemon says that no daemon answers on the socket.
var ErrNoDaemon = errors.New("the lab's daemon does not run")

func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("control: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://daemon"+path, body)
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	resp, err := c.http.Do(req)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return nil, ErrNoDaemon
	case err != nil:
		return nil, &services.Error{Kind: services.Unavailable, Msg: "the lab's daemon went away", Err: err, Remedy: goneRemedy}
	}
	return resp, nil
}

func do[Res any](ctx context.Context, c *Client, method, path string, in any) (Res, error) {
	var out Res
	resp, err := c.send(ctx, method, path, in)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		var p services.Problem
		if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
			return out, services.Errorf(services.Internal, "the daemon answered %s", resp.Status)
		}
		return out, p.Err()
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return out, &services.Error{Kind: services.Unavailable, Msg: "the daemon's answer broke off", Err: err, Remedy: goneRemedy}
	}
	return out, nil
}

func streamed[Res any](ctx context.Context, c *Client, path string, in any, p Progress) (Res, error) {
	var out Res
	resp, err := c.send(ctx, http.MethodPost, path, in)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var m Message
		if err := dec.Decode(&m); err != nil {
			if ctx.Err() != nil {
				return out, ctx.Err()
			}
			return out, &services.Error{Kind: services.Unavailable, Msg: "the daemon went away before it was done", Err: err, Remedy: "run the same command again: it goes on from where this one stopped"}
		}
		if m.Event != nil {
			if p != nil {
				p(*m.Event)
			}
			continue
		}
		if len(m.Result) > 0 {
			if err := json.Unmarshal(m.Result, &out); err != nil {
				return out, fmt.Errorf("control: %w", err)
			}
		}
		if m.Error != nil {
			return out, m.Error.Err()
		}
		return out, nil
	}
}

// Version of the daemon's build; "" is one from before it told.
func (c *Client) Version(ctx context.Context) (string, error) {
	resp, err := c.send(ctx, http.MethodHead, "/v1/version", nil)
	if err != nil {
		return "", err
	}
	_ = resp.Body.Close()
	return resp.Header.Get(versionHeader), nil
}

// Up converges the lab; p gets its progress.
func (c *Client) Up(ctx context.Context, r UpRequest, p Progress) (UpResult, error) {
	return streamed[UpResult](ctx, c, "/v1/up", r, p)
}

// Plan says what Up would do.
func (c *Client) Plan(ctx context.Context, r UpRequest) (Plan, error) {
	return do[Plan](ctx, c, http.MethodPost, "/v1/plan", r)
}

// Down ends the lab; the daemon ends after it has answered.
func (c *Client) Down(ctx context.Context, r DownRequest) (DownResult, error) {
	return do[DownResult](ctx, c, http.MethodPost, "/v1/down", r)
}

// Status of the lab.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return do[Status](ctx, c, http.MethodGet, "/v1/status", nil)
}

// World of the lab.
func (c *Client) World(ctx context.Context) (World, error) {
	return do[World](ctx, c, http.MethodGet, "/v1/world", nil)
}

// Titles lists the catalogue, or what a query finds in it.
func (c *Client) Titles(ctx context.Context, query string) (Titles, error) {
	return do[Titles](ctx, c, http.MethodGet, "/v1/titles?q="+url.QueryEscape(query), nil)
}

// AddTitle runs a transcode-and-fill job to its end.
func (c *Client) AddTitle(ctx context.Context, r AddTitleRequest, p Progress) (AddTitleResult, error) {
	return streamed[AddTitleResult](ctx, c, "/v1/titles", r, p)
}

// Jobs lists transcode jobs.
func (c *Client) Jobs(ctx context.Context) ([]Job, error) {
	return do[[]Job](ctx, c, http.MethodGet, "/v1/jobs", nil)
}

// Failover evacuates a region. The report is set beside an error too.
func (c *Client) Failover(ctx context.Context, r FailoverRequest, p Progress) (Failover, error) {
	return streamed[Failover](ctx, c, "/v1/failover", r, p)
}

// Failback returns traffic to an evacuated region.
func (c *Client) Failback(ctx context.Context, r FailoverRequest, p Progress) (Failover, error) {
	return streamed[Failover](ctx, c, "/v1/failback", r, p)
}

// CancelMove undoes the failover or failback of a region that is under way.
func (c *Client) CancelMove(ctx context.Context, r FailoverRequest) (Failover, error) {
	return do[Failover](ctx, c, http.MethodPost, "/v1/failover/cancel", r)
}

// FailoverStatus lists evacuations, the newest last.
func (c *Client) FailoverStatus(ctx context.Context) ([]Failover, error) {
	return do[[]Failover](ctx, c, http.MethodGet, "/v1/failover", nil)
}

// Trace collects the spans of a trace.
func (c *Client) Trace(ctx context.Context, id string) (Trace, error) {
	return do[Trace](ctx, c, http.MethodGet, "/v1/traces/"+url.PathEscape(id), nil)
}

// Sessions lists recent playback sessions.
func (c *Client) Sessions(ctx context.Context) ([]Session, error) {
	return do[[]Session](ctx, c, http.MethodGet, "/v1/sessions", nil)
}

// Record adds an event to the lab's log and spans to its traces.
func (c *Client) Record(ctx context.Context, e Event, spans []Span) error {
	_, err := do[struct{}](ctx, c, http.MethodPost, "/v1/record", recordRequest{e, spans})
	return err
}

// Instance runs "stop", "start" or "kill" on an instance.
func (c *Client) Instance(ctx context.Context, verb, name string) error {
	_, err := do[struct{}](ctx, c, http.MethodPost, "/v1/instances/"+verb, InstanceRequest{name})
	return err
}

// Halt stops every instance of the lab in order; their data stay.
func (c *Client) Halt(ctx context.Context, p Progress) (Switched, error) {
	return streamed[Switched](ctx, c, "/v1/halt", struct{}{}, p)
}

// Resume starts a lab that was stopped.
func (c *Client) Resume(ctx context.Context, p Progress) (Switched, error) {
	return streamed[Switched](ctx, c, "/v1/resume", struct{}{}, p)
}

// Diff compares what is wanted with what is there.
func (c *Client) Diff(ctx context.Context) (Diff, error) {
	return do[Diff](ctx, c, http.MethodGet, "/v1/diff", nil)
}

// SaveSnapshot stops the lab, copies its state and starts it again.
func (c *Client) SaveSnapshot(ctx context.Context, r SnapshotRequest, p Progress) (Snapshot, error) {
	return streamed[Snapshot](ctx, c, "/v1/snapshots", r, p)
}

// Events calls f for each event after seq; with follow it goes on until ctx
// ends or the daemon does.
func (c *Client) Events(ctx context.Context, seq uint64, follow bool, f func(Event) error) error {
	path := fmt.Sprintf("/v1/events?after=%d", seq)
	if follow {
		path += "&follow=1"
	}
	resp, err := c.send(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var e Event
		switch err := dec.Decode(&e); {
		case errors.Is(err, io.EOF):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return &services.Error{Kind: services.Unavailable, Msg: "the daemon went away", Err: err, Remedy: goneRemedy}
		}
		if err := f(e); err != nil {
			return err
		}
	}
}

// Commands lists resilience commands.
func (c *Client) Commands(ctx context.Context, q CommandQuery) (Commands, error) {
	v := url.Values{}
	for k, x := range map[string]string{"name": q.Name, "region": q.Region, "role": q.Role, "instance": q.Instance} {
		if x != "" {
			v.Set(k, x)
		}
	}
	return do[Commands](ctx, c, http.MethodGet, "/v1/commands?"+v.Encode(), nil)
}

// SetCommand sets properties of commands and answers what they are in then.
func (c *Client) SetCommand(ctx context.Context, r CommandRequest) (Commands, error) {
	return do[Commands](ctx, c, http.MethodPost, "/v1/commands", r)
}

// WAN tells what lies between the regions.
func (c *Client) WAN(ctx context.Context) (WAN, error) {
	return do[WAN](ctx, c, http.MethodGet, "/v1/wan", nil)
}

// Check writes for a while and looks what is left of it. The report is set
// beside an error too.
func (c *Client) Check(ctx context.Context, r CheckRequest, p Progress) (Check, error) {
	return streamed[Check](ctx, c, "/v1/check", r, p)
}

// Cut cuts two regions apart, or heals all cuts.
func (c *Client) Cut(ctx context.Context, r CutRequest) (WAN, error) {
	return do[WAN](ctx, c, http.MethodPost, "/v1/wan", r)
}
