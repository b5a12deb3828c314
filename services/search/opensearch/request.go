package opensearch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/flix-lab/flix/services"
)

// maxAnswer bounds the body of an answer, in bytes: a hundred hits with the
// longest of names stay far below, and so do a thousand refused documents.
const maxAnswer = 8 << 20

// Types of OpenSearch's errors that the client acts upon.
const (
	reasonNoIndex = "index_not_found_exception"
	reasonExists  = "resource_already_exists_exception"
)

// request is one call of the REST API.
type request struct {
	op     string // what it does, for errors
	method string
	path   string // with its query
	body   []byte // JSON
	lines  bool   // the body is one JSON value per line
}

func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return b, nil
}

// do sends a request and reads a good answer into out, unless that is nil.
func (c *Client) do(ctx context.Context, r request, out any) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	base, err := c.cfg.Endpoint(ctx)
	if err != nil {
		return services.Wrap(r.op, err)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, strings.TrimSuffix(base, "/")+r.path, bytes.NewReader(r.body))
	if err != nil {
		return &services.Error{Op: r.op, Kind: services.Internal, Msg: "the endpoint is not a URL", Err: err}
	}
	req.Header.Set("Content-Type", "application/json")
	if r.lines {
		req.Header.Set("Content-Type", "application/x-ndjson")
	}
	// Every request may come twice. The empty key tells net/http so, which then
	// replaces a kept connection that a restart of the server has cut, and is
	// not sent.
	req.Header["Idempotency-Key"] = []string{}
	resp, err := c.http.Do(req)
	if err != nil {
		return unreachable(r.op, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return unreachable(r.op, err)
	case len(body) > maxAnswer:
		return services.Errorf(services.Internal, "%s: the answer has more than %d bytes", r.op, maxAnswer)
	case resp.StatusCode != http.StatusOK:
		return refused(r.op, resp.StatusCode, causeOf(body))
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return &services.Error{Op: r.op, Kind: services.Internal, Msg: fmt.Sprintf("the answer is not OpenSearch's: %.100q", body), Err: err}
	}
	return nil
}

// unreachable is the error of a request without an answer.
func unreachable(op string, err error) error {
	return (&services.Error{Op: op, Kind: services.Unavailable, Msg: "the search index is out of reach", Err: err}).
		WithRemedy("see whether the region's search instance is up: OpenSearch takes up to a minute to start")
}

// cause is why OpenSearch refused something.
type cause struct {
	Type   string `json:"type"`
	Reason string `json:"reason"`
}

// causeOf reads the cause out of the body of an error. What is in front of an
// OpenSearch that is not up yet may answer in its place, in any form.
func causeOf(body []byte) cause {
	var e struct {
		Error json.RawMessage `json:"error"`
	}
	var c cause
	if json.Unmarshal(body, &e) == nil {
		if json.Unmarshal(e.Error, &c) == nil && c.Type != "" {
			return c
		}
		var text string
		if json.Unmarshal(e.Error, &text) == nil && text != "" {
			return cause{Reason: text}
		}
	}
	return cause{Reason: string(body)}
}

// refused is the error of an answer, or of one document within it. Its reason
// is the type of OpenSearch's error.
func refused(op string, status int, c cause) *services.Error {
	e := services.Errorf(services.KindFromHTTP(status), "OpenSearch answered %d: %s: %.300s", status, c.Type, c.Reason).WithReason(c.Type)
	e.Op = op
	switch {
	case status == http.StatusRequestTimeout:
		e.Kind = services.Unavailable
	case status == http.StatusNotFound && c.Type == reasonNoIndex:
		e.Kind = services.Unavailable
	case status == http.StatusNotFound:
		// No request names anything else that could be missing.
		e.Kind = services.Internal
	case status == http.StatusTooManyRequests && strings.Contains(c.Reason, "disk usage"):
		e.WithRemedy("free some disk: OpenSearch takes no documents when its disk is almost full")
	}
	if e.Kind == services.Unavailable {
		e.WithRemedy("try again: OpenSearch is starting, or making its index")
	}
	return e
}
