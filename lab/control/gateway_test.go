package control

import (
	"context"
	"testing"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/gateway"
)

func (f *fakeEngine) Routes(context.Context) (Routes, error) {
	return Routes{Version: 3, Routes: gateway.DefaultRoutes()}, nil
}

func (f *fakeEngine) ChangeRoutes(_ context.Context, r RouteChange) (Routes, error) {
	if len(r.Remove) > 0 {
		return Routes{}, services.Errorf(services.NotFound, "there is no route %q", r.Remove[0])
	}
	return Routes{Version: 4, Routes: r.Set, Note: r.Note}, nil
}

func (*fakeEngine) RouteHistory(context.Context) (RouteHistory, error) {
	return RouteHistory{Versions: []RouteVersion{{Version: 0}, {Version: 1, Current: true}}}, nil
}

func (*fakeEngine) Filters(_ context.Context, region string) (Filters, error) {
	return Filters{Filters: []Filter{{FilterStatus: gateway.FilterStatus{Name: "cors of " + region}, Gateways: 2}}}, nil
}

func (f *fakeEngine) ChangeFilter(_ context.Context, r FilterChange) (Filters, error) {
	f.called("filter " + r.Filter + " " + r.Options["disable"])
	return Filters{}, nil
}

func (*fakeEngine) Squeeze(_ context.Context, r SqueezeRequest, p Progress) (SqueezeResult, error) {
	p(Event{Kind: "squeeze.step", Text: r.VIP})
	return SqueezeResult{VIP: r.VIP, Restored: true}, services.Errorf(services.Conflict, "no traffic")
}

func (f *fakeEngine) StopSqueeze(context.Context, struct{}) (struct{}, error) {
	f.called("stop squeeze")
	return struct{}{}, nil
}

func (*fakeEngine) DebugToken(_ context.Context, r DebugRequest) (DebugToken, error) {
	return DebugToken{Header: "X-Flix-Debug", Token: r.VIP}, nil
}

func TestGatewayCalls(t *testing.T) {
	e := &fakeEngine{}
	c, _ := serve(t, e, nil)
	ctx := t.Context()
	if got, err := c.Routes(ctx); err != nil || got.Version != 3 || len(got.Routes) != len(gateway.DefaultRoutes()) || got.Routes[len(got.Routes)-2].VIP != "play" || !got.Routes[len(got.Routes)-2].Member {
		t.Errorf("routes %+v, %v", got, err)
	}
	if got, err := c.ChangeRoutes(ctx, RouteChange{Set: []Route{{Name: "n", Prefix: "/n", VIP: "n"}}, Note: "why"}); err != nil || got.Version != 4 || got.Routes[0].Name != "n" || got.Note != "why" {
		t.Errorf("set %+v, %v", got, err)
	}
	if _, err := c.ChangeRoutes(ctx, RouteChange{Remove: []string{"x"}}); services.KindOf(err) != services.NotFound {
		t.Errorf("rm: %v", err)
	}
	if got, err := c.RouteHistory(ctx); err != nil || len(got.Versions) != 2 || !got.Versions[1].Current {
		t.Errorf("history %+v, %v", got, err)
	}
	if got, err := c.Filters(ctx, "us-east"); err != nil || got.Filters[0].Name != "cors of us-east" || got.Filters[0].Gateways != 2 {
		t.Errorf("filters %+v, %v", got, err)
	}
	if _, err := c.ChangeFilter(ctx, FilterChange{Filter: "cors", Options: map[string]string{"disable": "on"}}); err != nil || e.seen()[0] != "filter cors on" {
		t.Errorf("filter: %v, %v", e.seen(), err)
	}
	steps := 0
	got, err := c.Squeeze(ctx, SqueezeRequest{VIP: "play"}, func(Event) { steps++ })
	if services.KindOf(err) != services.Conflict || got.VIP != "play" || !got.Restored || steps != 1 {
		t.Errorf("squeeze %+v after %d steps, %v", got, steps, err)
	}
	if got, err := c.DebugToken(ctx, DebugRequest{VIP: "v"}); err != nil || got.Token != "v" {
		t.Errorf("debug %+v, %v", got, err)
	}
}
