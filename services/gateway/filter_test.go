package gateway

import (
	"errors"
	"slices"
	"testing"

	"github.com/flix-lab/flix/services"
)

func TestFiltersRunInOrder(t *testing.T) {
	var ran []string
	note := func(name string, p Phase, order int, err error) Filter {
		return Filter{Name: name, Phase: p, Order: order, Run: func(ex *Exchange) error {
			ran = append(ran, name)
			if p == Endpoint && err == nil {
				ex.Response = Response{Status: 200, Header: NewHeader()}
			}
			return err
		}}
	}
	errNo := services.Errorf(services.Conflict, "no")
	never := note("never", Endpoint, 0, nil)
	never.Applies = func(*Exchange) bool { return false }
	tests := []struct {
		name    string
		filters []Filter
		want    []string
		status  int
	}{
		{"by number", []Filter{note("b", Inbound, 2, nil), note("a", Inbound, 10, nil), note("e", Endpoint, 1, nil), note("o", Outbound, 1, nil)}, []string{"b", "a", "e", "o"}, 200},
		{"one endpoint", []Filter{never, note("e2", Endpoint, 2, nil), note("e1", Endpoint, 1, nil)}, []string{"e1"}, 200},
		{"inbound error", []Filter{note("a", Inbound, 1, errNo), note("b", Inbound, 2, nil), note("e", Endpoint, 1, nil), note("o", Outbound, 1, nil)}, []string{"a", "o"}, 409},
		{"endpoint error", []Filter{note("e1", Endpoint, 1, errNo), note("e2", Endpoint, 2, nil)}, []string{"e1"}, 409},
		{"outbound error", []Filter{note("e", Endpoint, 1, nil), note("o1", Outbound, 1, errNo), note("o2", Outbound, 2, nil)}, []string{"e", "o1", "o2"}, 409},
		{"no endpoint", []Filter{never}, nil, 404},
		{"panic", []Filter{{Name: "p", Phase: Endpoint, Run: func(*Exchange) error { panic("bug") }}, note("o", Outbound, 1, nil)}, []string{"o"}, 500},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ran = nil
			c, err := newChain(newWorld(t).gateway("us-east").tel.Log, tt.filters)
			if err != nil {
				t.Fatal(err)
			}
			ex := &Exchange{ctx: t.Context()}
			c.run(ex)
			if !slices.Equal(ran, tt.want) || ex.Response.Status != tt.status {
				t.Errorf("ran %v, status %d; want %v, %d", ran, ex.Response.Status, tt.want, tt.status)
			}
		})
	}
}

func TestChainRefusesBadFilters(t *testing.T) {
	run := func(*Exchange) error { return nil }
	for name, fs := range map[string][]Filter{
		"twice":    {{Name: "a", Run: run}, {Name: "a", Phase: Outbound, Run: run}},
		"no name":  {{Run: run}},
		"no run":   {{Name: "a"}},
		"no phase": {{Name: "a", Phase: 7, Run: run}},
	} {
		if _, err := newChain(nil, fs); services.KindOf(err) != services.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFilterIsDisabledAtRunTime(t *testing.T) {
	e := newWorld(t).gateway("us-east", func(d *Deps) {
		d.Filters = []Filter{{Name: "teapot", Phase: Inbound, Order: 1, Run: func(*Exchange) error { return errors.New("I am one") }}}
	})
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	c := e.client(eastClient, true)
	for _, tt := range []struct {
		value  string
		status int
	}{{"", 500}, {"on", 200}, {"", 500}, {"true", 200}} {
		e.set("gateway.filter.teapot.disable", tt.value)
		if a := ask(t, c, "GET", "/signup/plans", ""); a.StatusCode != tt.status {
			t.Errorf("disable=%q: status %d, want %d", tt.value, a.StatusCode, tt.status)
		}
	}
	if n := e.metric("gateway_filter_total", "filter", "teapot", "result", "error"); n != 2 {
		t.Errorf("%v errors counted", n)
	}
	if n := e.metric("gateway_filter_total", "filter", "route", "result", "ok"); n != 2 {
		t.Errorf("%v runs of route counted", n)
	}
}
