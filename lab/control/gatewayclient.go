package control

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"
)

// Routes tells the gateways' table.
func (c *Client) Routes(ctx context.Context) (Routes, error) {
	return do[Routes](ctx, c, http.MethodGet, "/v1/gateway/routes", nil)
}

// ChangeRoutes makes a new version of the gateways' table.
func (c *Client) ChangeRoutes(ctx context.Context, r RouteChange) (Routes, error) {
	return do[Routes](ctx, c, http.MethodPost, "/v1/gateway/routes", r)
}

// RouteHistory lists the versions of the table.
func (c *Client) RouteHistory(ctx context.Context) (RouteHistory, error) {
	return do[RouteHistory](ctx, c, http.MethodGet, "/v1/gateway/routes/history", nil)
}

// Filters of the gateways of a region, or of all for "".
func (c *Client) Filters(ctx context.Context, region string) (Filters, error) {
	return do[Filters](ctx, c, http.MethodGet, "/v1/gateway/filters?region="+url.QueryEscape(region), nil)
}

// ChangeFilter switches a filter, or changes its options.
func (c *Client) ChangeFilter(ctx context.Context, r FilterChange) (Filters, error) {
	return do[Filters](ctx, c, http.MethodPost, "/v1/gateway/filters", r)
}

// squeezeFarewell bounds the wait for the end of a squeeze that was told to.
const squeezeFarewell = 10 * time.Second

// Squeeze runs a squeeze test. The result is set beside an error too, also when
// ctx ends: the test is then told to end, and what it has found comes back with
// the word whether the shares are restored.
func (c *Client) Squeeze(ctx context.Context, r SqueezeRequest, p Progress) (SqueezeResult, error) {
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	told := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(told)
		end, done := context.WithTimeout(run, squeezeFarewell)
		defer done()
		if _, err := do[struct{}](end, c, http.MethodPost, "/v1/gateway/squeeze/stop", struct{}{}); err != nil {
			cancel()
		}
	})
	res, err := streamed[SqueezeResult](run, c, "/v1/gateway/squeeze", r, p)
	if !stop() {
		cancel()
		<-told
		err = errors.Join(ctx.Err(), err)
	}
	return res, err
}

// DebugToken signs a token that shows the detail of requests.
func (c *Client) DebugToken(ctx context.Context, r DebugRequest) (DebugToken, error) {
	return do[DebugToken](ctx, c, http.MethodPost, "/v1/gateway/debug", r)
}
