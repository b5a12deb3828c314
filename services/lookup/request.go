package lookup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/lookup/eureka"
)

// HeaderEpoch names the registry's incarnation in its answers: it changes
// when the registry restarts with an empty memory. Stock servers do not send
// it, stock clients ignore it.
const HeaderEpoch = "X-Flix-Registry-Epoch"

// HeaderSince, in an answer with a delta, is the version (versions__delta)
// after which the delta lacks no change. A client whose copy is older fetches
// in full: the hash alone cannot tell, since it only counts.
const HeaderSince = "X-Flix-Registry-Since"

// maxAnswer bounds an answer of the registry, in bytes.
const maxAnswer = 32 << 20

type response struct {
	status int
	header http.Header
	body   []byte
}

func (r *response) failure(op string) error {
	return &services.Error{Op: "lookup: " + op, Kind: services.KindFromHTTP(r.status), Msg: fmt.Sprintf("the registry answered %d: %.200s", r.status, r.body)}
}

// do sends one request to the registry that answered last and, when that
// fails or is overwhelmed, to the others in turn.
func (c *Client) do(ctx context.Context, method, path string, h http.Header, body []byte) (*response, error) {
	bases := c.cfg.Registry()
	if len(bases) == 0 {
		return nil, services.Errorf(services.Unavailable, "lookup: no registry of %s is known", c.cfg.Region)
	}
	var errs []error
	first := int(c.good.Load())
	for k := range bases {
		n := (first + k) % len(bases)
		resp, err := c.once(ctx, method, base(bases[n])+path, h, body)
		if err == nil && resp.status < http.StatusInternalServerError {
			c.good.Store(int32(n))
			return resp, nil
		}
		if err == nil {
			err = resp.failure(method + " " + path)
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, &services.Error{Op: "lookup", Kind: services.Unavailable, Msg: "no registry of " + c.cfg.Region + " answers", Err: errors.Join(errs...)}
}

func (c *Client) once(ctx context.Context, method, target string, h http.Header, body []byte) (*response, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timing.RPCTimeout.D())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range h {
		req.Header[k] = v
	}
	req.Header.Set("Accept", eureka.JSON)
	if body != nil {
		req.Header.Set("Content-Type", eureka.JSON)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	return &response{status: resp.StatusCode, header: resp.Header, body: b}, nil
}

// base completes a registry's URL with the API's path if it has none.
func base(s string) string {
	s = strings.TrimSuffix(s, "/")
	if u, err := url.Parse(s); err == nil && u.Path == "" {
		return s + "/eureka/v2"
	}
	return s
}
