package topology

import (
	"slices"
	"strings"
	"testing"
)

func TestBGPGivesAppliancesAPortAndARouter(t *testing.T) {
	v, err := Parse(strings.NewReader("bgp: true\nregions: [{name: us-east, exchange: {name: ix}, isps: [{name: own, asn: 64600}, {name: far, router: {address: \"127.0.0.1:1179\", asn: 4200000001}}]}]"), "t.yaml")
	if err != nil {
		t.Fatal(err)
	}
	asns := map[string]uint32{}
	for _, i := range v.Instances() {
		if i.Site != nil {
			asns[i.Site.Name] = i.Site.RouterASN
			if !slices.Contains(i.Ports, PortBGP) || (i.Site.Router != nil) != (i.Site.Name == "far") {
				t.Errorf("%+v", i)
			}
		}
	}
	if asns["ix"] != ExchangeASN || asns["own"] != 64600 || asns["far"] != 4200000001 {
		t.Errorf("routers are of %v", asns)
	}
	b, err := v.YAML()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Parse(strings.NewReader(string(b)), "t.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if d := equal(v, back); d != "" {
		t.Errorf("changes on its way through YAML: %s", d)
	}
}

func TestWithoutBGPNothingIsDifferent(t *testing.T) {
	v, err := Preset(1)
	if err != nil {
		t.Fatal(err)
	}
	b, err := v.YAML()
	if err != nil || strings.Contains(string(b), "bgp") || strings.Contains(string(b), "router") {
		t.Errorf("%v\n%s", err, b)
	}
	for _, i := range v.Instances() {
		if slices.Contains(i.Ports, PortBGP) || i.Site != nil && i.Site.Speaks() {
			t.Errorf("%+v", i)
		}
	}
}

func TestRouterProblems(t *testing.T) {
	for text, want := range map[string]string{
		"bgp: yes please\nregions: [us-east]":                                                                 `t.yaml:1: bgp: "yes please" is text where true or false is expected: write true or false`,
		"regions:\n- name: us-east\n  isps: [{router: {asn: 7}}]":                                             "t.yaml:3: regions[0].isps[0].router: is of no use without BGP",
		"bgp: true\nregions:\n- name: us-east\n  isps:\n  - router: {address: localhost}":                     `t.yaml:5: regions[0].isps[0].router.address: "localhost" is not an IP address and a port`,
		"bgp: true\nregions:\n- name: us-east\n  isps:\n  - asn: 64511":                                       `t.yaml:5: regions[0].isps[0].asn: "64511" is the number of the appliances' own autonomous system`,
		"bgp: true\nregions:\n- name: us-east\n  exchange:\n    name: ix\n    router: {asn: 64511}":           `t.yaml:6: regions[0].exchange.router.asn: "64511" is the number of the appliances' own`,
		"bgp: true\nregions:\n- name: us-east\n  exchange:\n    name: ix\n    router: {asn: -1}":              "t.yaml:6: regions[0].exchange.router.asn: \"-1\" is outside",
		"bgp: true\nregions:\n- name: us-east\n  exchange: {name: ix, router: {host: a, asn: 1}}":             `"host" is not a field here`,
		"bgp: true\nregions:\n- name: us-east\n  isps: [{router: {address: \"127.0.0.1:0\", asn: 1}}]":        "is not an IP address and a port",
		"bgp: true\nregions:\n- name: us-east\n  isps: [{router: {address: \"127.0.0.1:9\", from: me}}]":      "is not an IP address",
		"bgp: true\nregions:\n- name: us-east\n  isps: [{router: {from: 127.0.0.9}}]":                         "is of no use to a router that connects",
		"bgp: true\nregions:\n- name: us-east\n  isps: [{router: {address: \"127.0.0.1:9\", from: \"::1\"}}]": "is of another family",
	} {
		_, err := Parse(strings.NewReader(text), "t.yaml")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v\nwant %s", text, err, want)
		}
	}
}

// TestRouterSource: a router tells a site's appliances apart by their addresses.
func TestRouterSource(t *testing.T) {
	for _, x := range []struct {
		r    Router
		n    int
		want string
	}{
		{Router{Address: "127.0.0.1:1179"}, 1, "invalid IP"},
		{Router{Address: "127.0.0.1:1179"}, 3, "127.0.0.3"},
		{Router{Address: "127.0.0.1:1179", From: "127.0.1.1"}, 1, "127.0.1.1"},
		{Router{Address: "127.0.0.1:1179", From: "127.0.1.255"}, 2, "127.0.2.0"},
		{Router{Address: "192.0.2.1:179"}, 2, "invalid IP"},
		{Router{Address: "[::1]:1179"}, 2, "invalid IP"},
		{Router{Address: "[2001:db8::1]:179", From: "2001:db8::10"}, 3, "2001:db8::12"},
	} {
		if got := x.r.Source(x.n).String(); got != x.want {
			t.Errorf("%+v, appliance %d: from %s, want %s", x.r, x.n, got, x.want)
		}
	}
}
