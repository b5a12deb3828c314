package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

// driveTimeout bounds one request of a driven test.
const driveTimeout = 10 * time.Second

// driveFor is how long the token of a driven test is good.
const driveFor = time.Hour

// driveGateways asks for a path at the gateways of the instance's region, so
// many clients at once, one request after the other, until stop is called. It
// returns once a request was answered.
func driveGateways(ctx context.Context, client *control.Client, o squeezeOptions) (stop func(), err error) {
	if !strings.HasPrefix(o.drive, "/") {
		return nil, services.Errorf(services.Invalid, "--drive: %q is not a path", o.drive).WithRemedy("write it like --drive /signup/plans")
	}
	if o.asking < 1 || o.asking > 256 {
		return nil, services.Errorf(services.Invalid, "--drive-with: %d is not between 1 and 256", o.asking).WithRemedy("write it like --drive-with 32")
	}
	tok, err := client.DebugToken(ctx, control.DebugRequest{Member: o.member, ForMS: float64(driveFor.Milliseconds())})
	if err != nil {
		return nil, err
	}
	region, _, _ := strings.Cut(o.req.Instance, "/")
	var urls []string
	for id, base := range tok.Gateways {
		if strings.HasPrefix(id, region+"/") {
			urls = append(urls, base+o.drive)
		}
	}
	if len(urls) == 0 {
		return nil, services.Errorf(services.NotFound, "region %q has no gateway to ask", region)
	}
	web := &http.Client{Timeout: driveTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: o.asking, DisableCompression: true}}
	ask := func(ctx context.Context, url string) (int, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return 0, err
		}
		if tok.MemberToken != "" {
			req.Header.Set("Authorization", "Bearer "+tok.MemberToken)
		}
		resp, err := web.Do(req)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, err
	}
	status, err := ask(ctx, urls[0])
	if err == nil && status >= http.StatusBadRequest && status < http.StatusInternalServerError {
		err = services.Errorf(services.Invalid, "--drive: %s answers %d", urls[0], status).WithRemedy("name a path that the API answers to a GET")
	}
	if err != nil {
		return nil, err
	}
	dctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for k := range o.asking {
		wg.Go(func() {
			for dctx.Err() == nil {
				if _, err := ask(dctx, urls[k%len(urls)]); err != nil {
					select { // a gateway that is gone for a moment is not hammered
					case <-dctx.Done():
					case <-time.After(50 * time.Millisecond):
					}
				}
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
		web.CloseIdleConnections()
	}, nil
}
