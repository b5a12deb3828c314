package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
)

// ErrGone says that nothing answers where a host should.
var ErrGone = errors.New("the host is not there")

// Client speaks to one host. Its methods fail with ErrGone when nothing
// answers; all of them may be repeated.
type Client struct {
	http *http.Client
	base string
	key  string
}

// NewClient returns a client of a host at base, e.g. "http://host", that is
// dialled by dial. key, if any, is sent as a bearer token.
func NewClient(base, key string, dial services.DialFunc) *Client {
	return &Client{base: base, key: key, http: &http.Client{Transport: &http.Transport{
		DialContext:       dial,
		DisableKeepAlives: true, // few and small: a held connection only leaks
	}}}
}

// SetWorld tells the host how the world looks.
func (c *Client) SetWorld(ctx context.Context, w runtime.World) error {
	return c.do(ctx, http.MethodPut, "/world", w, nil)
}

// Start brings instances up; see runtime.Runtime.
func (c *Client) Start(ctx context.Context, specs []runtime.Spec) error {
	return c.do(ctx, http.MethodPost, "/start", specs, nil)
}

// Stop ends instances in order.
func (c *Client) Stop(ctx context.Context, ids []string, grace time.Duration) error {
	return c.do(ctx, http.MethodPost, "/stop", StopRequest{IDs: ids, Grace: grace}, nil)
}

// Kill ends instances at once.
func (c *Client) Kill(ctx context.Context, ids ...string) error {
	return c.do(ctx, http.MethodPost, "/kill", StopRequest{IDs: ids}, nil)
}

// Forget takes instances that have ended off the host's list.
func (c *Client) Forget(ctx context.Context, ids ...string) error {
	return c.do(ctx, http.MethodPost, "/forget", StopRequest{IDs: ids}, nil)
}

// Quit asks the host to end itself and its units in order.
func (c *Client) Quit(ctx context.Context) error {
	return c.do(ctx, http.MethodPost, "/quit", struct{}{}, nil)
}

// List returns the host's instances.
func (c *Client) List(ctx context.Context) ([]runtime.Instance, error) {
	var out []runtime.Instance
	err := c.do(ctx, http.MethodGet, "/instances", nil, &out)
	return out, err
}

func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return err
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return errors.New(strings.TrimSpace(string(b)))
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(out)
}
